"""The contracts of WIN_PART, WIN_UNPART, GET_REL_POS, ADD_REL_POS."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ggrpc.op import Op
from ggrpc.ops.windows import AddRelPosParams, WinPartParams, WinUnpartParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize(
    ("ne", "params", "message"),
    [
        ((3, 9, 8), (3, 2, 0), "w is 0, must be positive"),
        ((3, 9, 8), (2, 2, 4), r"npx and npy are 2 and 2, must be 3 and 2"),
        ((3, 9, 8, 2), (3, 2, 4), r"a.ne\[3\] is 2, must be 1"),
    ],
)
def test_win_part_with_invalid_parameters_is_refused(
    ne: Sequence[int], params: tuple[int, int, int], message: str
) -> None:
    case = Case()
    numbers = WinPartParams(*params)
    case.node(Op.WIN_PART, [case.leaf(ne)], (3, 4, 4, 6), params=numbers)
    assert_refused(case, message)


@pytest.mark.parametrize(
    ("ne", "w", "message"),
    [
        ((3, 4, 4, 6), -4, "w is -4, must be positive"),
        ((3, 4, 4, 5), 4, "must be 6 windows of 4"),
        ((3, 4, 5, 6), 4, "must be 6 windows of 4"),
        ((3, 5, 4, 6), 4, "must be 6 windows of 4"),
    ],
)
def test_win_unpart_with_invalid_windows_is_refused(
    ne: Sequence[int], w: int, message: str
) -> None:
    case = Case()
    params = WinUnpartParams(w)
    case.node(Op.WIN_UNPART, [case.leaf(ne)], (3, 9, 8), params=params)
    assert_refused(case, message)


def test_get_rel_pos_of_an_even_number_is_refused() -> None:
    case = Case()
    a = case.leaf((4, 6), GGMLType.F16)
    case.node(Op.GET_REL_POS, [a], (4, 3, 3), GGMLType.F16)
    assert_refused(case, r"must be a matrix with an odd number of rows")


@pytest.mark.parametrize(
    ("a", "pw", "message"),
    [
        ((9, 8, 2), (3, 4, 1, 2), "pw must have the shape of ph"),
        ((9, 8, 3), (3, 4, 2, 2), r"must be \[9, 8, 2, 1\]"),
        ((9, 8, 2, 2), (3, 4, 2, 2), r"must be \[9, 8, 2, 1\]"),
        ((10, 8, 2), (3, 4, 2, 2), r"must be \[9, 8, 2, 1\]"),
    ],
)
def test_add_rel_pos_with_invalid_sources_is_refused(
    a: Sequence[int], pw: Sequence[int], message: str
) -> None:
    case = Case()
    sources = [case.leaf(a), case.leaf(pw), case.leaf((3, 4, 2, 2))]
    case.node(Op.ADD_REL_POS, sources, a, params=AddRelPosParams(0))
    assert_refused(case, message)
