"""The contracts of NONE, VIEW, RESHAPE, PERMUTE, TRANSPOSE."""

from __future__ import annotations

import pytest

from ggrpc.op import Op
from ggrpc.ops import contract_of
from ggrpc.ops.views import PermuteParams
from tests.support.case import Case
from tests.support.contracts import assert_refused, check

VIEWS = (Op.NONE, Op.VIEW, Op.RESHAPE, Op.PERMUTE, Op.TRANSPOSE)


@pytest.mark.parametrize("op", VIEWS, ids=lambda op: op.name)
def test_view_computes_nothing(op: Op) -> None:
    assert not contract_of(op).computes


def test_permute_has_the_new_axis_of_each_dimension() -> None:
    case = Case()
    case.permute(case.leaf((2, 3, 4)), 0, 2, 1, 3)
    (node,) = case.graph().nodes
    assert node.params == PermuteParams(0, 2, 1, 3)
    check(case)


def test_reshape_to_equally_many_elements_is_accepted() -> None:
    case = Case()
    case.node(Op.RESHAPE, [case.leaf((6, 4))], (8, 3))
    check(case)


def test_reshape_to_more_elements_is_refused() -> None:
    case = Case()
    case.node(Op.RESHAPE, [case.leaf((6, 4))], (8, 4))
    assert_refused(case, "a must have as many elements as the result")
