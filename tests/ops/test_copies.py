"""The contracts of CONT, CPY, DUP, GET_ROWS, SET_ROWS, CONCAT, REPEAT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ggrpc.op import Op
from ggrpc.ops import contract_of
from ggrpc.ops.copies import ConcatParams, RollParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused, check

I32 = GGMLType.I32


def test_copy_to_a_new_tensor_names_itself_as_target() -> None:
    """The node is its own second source, as ggml_cast makes it."""
    case = Case()
    x = case.leaf((4, 2))
    y = case.node(Op.CPY, [x], x.ne, GGMLType.F16)
    case.tensors[-1] = y._replace(src=(x.id, y.id, *y.src[2:]))
    check(case)


@pytest.mark.parametrize("op", [Op.CPY, Op.CONT])
def test_copy_to_a_target_of_fewer_elements_is_refused(op: Op) -> None:
    case = Case()
    x, y = case.leaf((4, 3)), case.leaf((4, 2))
    case.node(op, [x, y] if op == Op.CPY else [x], y.ne)
    assert_refused(case, "a must have as many elements as")


def test_copy_with_another_type_than_its_target_is_refused() -> None:
    case = Case()
    x, y = case.leaf((4,)), case.leaf((4,), GGMLType.F16)
    case.node(Op.CPY, [x, y], y.ne)
    assert_refused(case, "the result must have the type of b")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((8, 5, 2), (3,), r"a.ne\[2\] is 2, must equal b.ne\[1\], 1"),
        ((8, 5, 1, 2), (3,), r"a.ne\[3\] is 2, must equal b.ne\[2\], 1"),
        ((8, 5), (3, 1, 1, 2), r"the indices' ne\[3\] is 2, must be 1"),
    ],
)
def test_get_rows_with_invalid_indices_is_refused(
    a: Sequence[int], b: Sequence[int], message: str
) -> None:
    case = Case()
    rows, ids = case.leaf(a), case.leaf(np.zeros(b[::-1]), I32)
    case.node(Op.GET_ROWS, [rows, ids], (8, *b[:3]))
    assert_refused(case, message)


def test_get_rows_of_floats_returns_floats() -> None:
    case = Case()
    rows, ids = case.leaf((8, 5)), case.leaf(np.zeros(3), I32)
    case.node(Op.GET_ROWS, [rows, ids], (8, 3), I32)
    assert_refused(case, "the result is I32, must be F32")


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        ((8, 3), (4,), r"b.ne\[1\] is 3, must equal c.ne\[0\], 4"),
        ((8, 3, 4), (3, 3), r"b.ne\[2\] is 4, must be a multiple of c.ne\[1\], 3"),
        ((8, 3, 4), (3, 0), r"b.ne\[2\] is 4, must be a multiple of c.ne\[1\], 0"),
        ((8, 3, 4, 2), (3, 4, 3), r"b.ne\[3\] is 2, must be a multiple of"),
        ((8, 3), (3, 1, 1, 2), r"the indices' ne\[3\] is 2, must be 1"),
        ((4, 3), (3,), r"the result's ne is \[8, 9, 1, 1\]"),
    ],
)
def test_set_rows_with_invalid_sources_is_refused(
    rows: Sequence[int], ids: Sequence[int], message: str
) -> None:
    case = Case()
    b, c = case.leaf(rows), case.leaf(np.zeros(ids[::-1]), I32)
    a = case.leaf((8, 9, *rows[2:]))
    case.node(Op.SET_ROWS, [b, c, a], a.ne, inplace_over=a)
    assert_refused(case, message)


def test_second_source_of_row_ops_is_an_index() -> None:
    for op in (Op.GET_ROWS, Op.SET_ROWS):
        assert [source.index for source in contract_of(op).sources[:2]] == [False, True]


@pytest.mark.parametrize(
    ("b", "dim", "message"),
    [
        ((4, 2), -1, "dim is -1, must be 0 to 3"),
        ((4, 2), 4, "dim is 4, must be 0 to 3"),
        ((5, 3), 1, "a and b may differ only in dimension 1"),
    ],
)
def test_concat_with_invalid_sources_is_refused(
    b: Sequence[int], dim: int, message: str
) -> None:
    case = Case()
    x, y = case.leaf((4, 2)), case.leaf(b)
    case.node(Op.CONCAT, [x, y], (4, 5), params=ConcatParams(dim))
    assert_refused(case, message)


def test_concat_of_two_types_is_refused() -> None:
    case = Case()
    x, y = case.leaf((4, 2)), case.leaf((4, 2), GGMLType.F16)
    case.node(Op.CONCAT, [x, y], (4, 4), params=ConcatParams(1))
    assert_refused(case, "a must have the type of b")


def test_repeat_to_a_fraction_of_the_source_is_refused() -> None:
    case = Case()
    case.node(Op.REPEAT, [case.leaf((4, 2))], (6, 2))
    assert_refused(case, "a must repeat into the result")


@pytest.mark.parametrize("shift", [4, -4])
def test_roll_by_the_whole_length_is_refused(shift: int) -> None:
    case = Case()
    x = case.leaf((4, 2))
    case.node(Op.ROLL, [x], x.ne, params=RollParams(shift, 0, 0, 0))
    assert_refused(case, "the shifts are .*, must be less than a's ne")
