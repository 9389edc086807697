"""The contracts of MUL_MAT and OUT_PROD."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ggrpc.op import Op
from ggrpc.ops.matmul import MulMatParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused, check


def test_mul_mat_broadcasts_its_matrices_over_heads() -> None:
    case = Case()
    a, b = case.leaf((32, 7, 2, 1), GGMLType.Q8_0), case.leaf((32, 5, 6, 3))
    case.node(Op.MUL_MAT, [a, b], (7, 5, 6, 3), params=MulMatParams(10, 0))
    check(case)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ((32, 7), (64, 5), r"a.ne\[0\] is 32, must equal b.ne\[0\], 64"),
        ((32, 7, 4), (32, 5, 6), r"b.ne\[2\] is 6, must be a multiple of a.ne\[2\], 4"),
        ((32, 7, 1, 2), (32, 5), r"b.ne\[3\] is 1, must be a multiple of a.ne\[3\], 2"),
    ],
)
def test_mul_mat_with_invalid_sources_is_refused(
    a: Sequence[int], b: Sequence[int], message: str
) -> None:
    case = Case()
    x, y = case.leaf(a), case.leaf(b)
    case.node(Op.MUL_MAT, [x, y], (7, 5))
    assert_refused(case, message)


def test_out_prod_of_different_numbers_of_rows_is_refused() -> None:
    case = Case()
    x, y = case.leaf((7, 5)), case.leaf((6, 4))
    case.node(Op.OUT_PROD, [x, y], (7, 6))
    assert_refused(case, r"a.ne\[1\] is 5, must equal b.ne\[1\], 4")
