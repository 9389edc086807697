"""The contracts of UNARY and GLU."""

from __future__ import annotations

import pytest

from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops.activations import GluParams, UnaryParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused, check


@pytest.mark.parametrize("number", [-1, len(UnaryOp)])
def test_unknown_unary_op_is_refused(number: int) -> None:
    case = Case()
    params = UnaryParams(number, 0, 0, 0, 0)
    case.node(Op.UNARY, [case.leaf((4,))], (4,), params=params)
    assert_refused(case, f"the unary op is {number}, must be 0 to 21")


@pytest.mark.parametrize("number", [-1, len(GluOp)])
def test_unknown_glu_op_is_refused(number: int) -> None:
    case = Case()
    case.node(Op.GLU, [case.leaf((4,))], (2,), params=GluParams(number, 0, 0, 0))
    assert_refused(case, f"the GLU op is {number}, must be 0 to 6")


def test_glu_rounds_half_of_an_odd_row_down() -> None:
    case = Case()
    case.node(Op.GLU, [case.leaf((5, 2))], (2, 2), params=GluParams(0, 0, 0, 0))
    check(case)


def test_glu_of_different_shapes_is_refused() -> None:
    case = Case()
    a, b = case.leaf((4, 2)), case.leaf((4, 1))
    case.node(Op.GLU, [a, b], a.ne, params=GluParams(0, 0, 0, 0))
    assert_refused(case, "a must have the shape of b")


def test_glu_of_two_types_is_refused() -> None:
    case = Case()
    a, b = case.leaf((4, 2)), case.leaf((4, 2), GGMLType.F16)
    case.node(Op.GLU, [a, b], a.ne, params=GluParams(0, 0, 0, 0))
    assert_refused(case, "a must have the type of b")
