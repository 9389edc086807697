"""The contracts of PAD, PAD_REFLECT_1D."""

from __future__ import annotations

import pytest

from ggrpc.op import Op
from ggrpc.ops.padding import PadParams, PadReflectParams
from tests.support.case import Case
from tests.support.contracts import assert_refused


def test_pad_to_a_wrong_size_is_refused() -> None:
    case = Case()
    params = PadParams(1, 2, 0, 0, 0, 0, 0, 0, 0)
    case.node(Op.PAD, [case.leaf((4, 3))], (8, 3), params=params)
    assert_refused(case, r"ne is \[8, 3, 1, 1\], must be \[7, 3, 1, 1\]")


def test_pad_of_nothing_to_a_smaller_size_is_refused() -> None:
    case = Case()
    case.node(Op.PAD, [case.leaf((4, 3))], (3, 3), params=PadParams(*[0] * 9))
    assert_refused(case, r"must be \[4, 3, 1, 1\]")


def test_circular_pad_of_an_empty_row_is_refused() -> None:
    case = Case()
    params = PadParams(1, 1, 0, 0, 0, 0, 0, 0, 1)
    case.node(Op.PAD, [case.leaf((0, 3))], (2, 3), params=params)
    assert_refused(case, "must not be empty to wrap around")


@pytest.mark.parametrize(("p0", "p1"), [(4, 0), (0, 4), (-1, 2)])
def test_pad_reflect_beyond_the_row_is_refused(p0: int, p1: int) -> None:
    case = Case()
    params = PadReflectParams(p0, p1)
    case.node(Op.PAD_REFLECT_1D, [case.leaf((4,))], (4 + p0 + p1,), params=params)
    assert_refused(case, r"must be 0 to a.ne\[0\] - 1, 3")
