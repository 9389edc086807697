"""The contracts of the reductions."""

from __future__ import annotations

import numpy as np

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
    assert_refused(case, "a's ne is .*, must be a matrix")


def test_argmax_of_empty_rows_is_refused() -> None:
    case = Case()
    case.node(Op.ARGMAX, [case.leaf((0, 2))], (2,), GGMLType.I32)
    assert_refused(case, "must not have empty rows")


def test_argsort_of_unknown_order_is_refused() -> None:
    case = Case()
    params = ArgsortParams(2)
    case.node(Op.ARGSORT, [case.leaf((4,))], (4,), GGMLType.I32, params)
    assert_refused(case, "order is 2, must be 0 or 1")


def test_top_k_of_more_elements_than_a_row_has_is_refused() -> None:
    case = Case()
    case.node(Op.TOP_K, [case.leaf((4, 2))], (5, 2), GGMLType.I32)
    assert_refused(case, r"k is 5, must be at most a.ne\[0\], 4")


def test_sum_of_another_type_is_refused() -> None:
    case = Case()
    case.node(Op.SUM, [case.leaf((4, 2), GGMLType.F16)], (1,))
    assert_refused(case, "a must have the type of the result")


def test_count_equal_of_other_shapes_is_refused() -> None:
    case = Case()
    a, b = (case.leaf(np.zeros(n, int), GGMLType.I32) for n in (4, 5))
    case.node(Op.COUNT_EQUAL, [a, b], (1,), GGMLType.I64)
    assert_refused(case, "a must have the shape of b")


def test_repeat_back_to_a_shape_that_does_not_divide_is_refused() -> None:
    case = Case()
    case.node(Op.REPEAT_BACK, [case.leaf((6, 4))], (4, 4))
    assert_refused(case, "the result must repeat into a")


def test_sum_of_overlapping_elements_is_refused() -> None:
    case = Case()
    x = case.view(case.leaf((8,)), (8,), (0,))
    case.node(Op.SUM, [x], (1,))
    assert_refused(case, r"a.nb\[0\] is 0, must be >= 4")
