"""The contracts of the arithmetic ops."""

from __future__ import annotations

import pytest

from ggrpc.op import Op
from ggrpc.ops.arithmetic import ClampParams, ScaleParams
from tests.support.case import Case
from tests.support.contracts import assert_refused, check

BINARY = (Op.ADD, Op.SUB, Op.MUL, Op.DIV)


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.name)
@pytest.mark.parametrize("ne", [(5, 3), (6, 2), (12, 3), (6, 3, 2), (0, 3)])
def test_source_that_cannot_be_broadcast_is_refused(
    op: Op, ne: tuple[int, ...]
) -> None:
    case = Case()
    a, b = case.leaf((6, 3)), case.leaf(ne)
    case.node(op, [a, b], a.ne)
    assert_refused(case, "b must repeat into a")


@pytest.mark.parametrize("op", BINARY, ids=lambda op: op.name)
def test_empty_source_is_broadcast_to_an_empty_result(op: Op) -> None:
    case = Case()
    a, b = case.leaf((6, 0)), case.leaf((0, 4))
    case.node(op, [a, b], a.ne)
    check(case)


def test_scale_has_a_scale_and_a_bias() -> None:
    case = Case()
    case.node(Op.SCALE, [case.leaf((4,))], (4,), params=ScaleParams(0.5, -2))
    (node,) = case.graph().nodes
    assert (node.params.scale, node.params.bias) == (0.5, -2)


def test_clamp_has_two_bounds() -> None:
    case = Case()
    case.node(Op.CLAMP, [case.leaf((4,))], (4,), params=ClampParams(-0.5, 2))
    (node,) = case.graph().nodes
    assert (node.params.min, node.params.max) == (-0.5, 2)


def test_add1_of_several_elements_is_refused() -> None:
    case = Case()
    a, b = case.leaf((4, 3)), case.leaf((2,))
    case.node(Op.ADD1, [a, b], a.ne)
    assert_refused(case, "b has 2 elements, must have 1")
