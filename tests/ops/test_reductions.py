"""The contracts of SUM_ROWS, ARGMAX, ARGSORT."""

from __future__ import annotations

from ggrpc.op import Op
from ggrpc.ops.reductions import ArgsortParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused


def test_sum_rows_that_keeps_the_rows_is_refused() -> None:
    case = Case()
    case.node(Op.SUM_ROWS, [case.leaf((4, 2))], (4, 2))
    assert_refused(case, r"must be \[1, 2, 1, 1\]")


def test_argmax_of_more_than_a_matrix_is_refused() -> None:
    case = Case()
    case.node(Op.ARGMAX, [case.leaf((4, 2, 3))], (2,), GGMLType.I32)
    assert_refused(case, "a is no matrix")


def test_argmax_of_empty_rows_is_refused() -> None:
    case = Case()
    case.node(Op.ARGMAX, [case.leaf((0, 2))], (2,), GGMLType.I32)
    assert_refused(case, "a has empty rows")


def test_argsort_of_unknown_order_is_refused() -> None:
    case = Case()
    params = ArgsortParams(2)
    case.node(Op.ARGSORT, [case.leaf((4,))], (4,), GGMLType.I32, params)
    assert_refused(case, "there is no sort order 2")
