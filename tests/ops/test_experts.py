"""The contracts of MUL_MAT_ID and ADD_ID."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.op import Op
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused, check


def mul_mat_id(
    experts: tuple[int, ...], b: tuple[int, ...], ids: tuple[int, ...]
) -> Case:
    case = Case()
    chosen = case.leaf(np.zeros(ids[::-1], int), GGMLType.I32)
    y = (experts[1], ids[0], b[2])
    case.node(Op.MUL_MAT_ID, [case.leaf(experts), case.leaf(b), chosen], y)
    return case


def test_mul_mat_id_with_experts_of_each_token_is_accepted() -> None:
    check(mul_mat_id((16, 8, 4), (16, 1, 5), (2, 5)))


@pytest.mark.parametrize(
    ("experts", "b", "ids", "message"),
    [
        ((16, 8, 4), (12, 1, 5), (2, 5), "as.ne.0. is 16, must equal b.ne.0., 12"),
        ((16, 8, 4), (16, 1, 5), (2, 4), "ids.ne.1. is 4, must equal b.ne.2., 5"),
        ((16, 8, 4), (16, 3, 5), (2, 5), "ids.ne.0. is 2, must be a multiple of b"),
        ((16, 8, 4, 2), (16, 1, 5), (2, 5), "must both be 1"),
        ((16, 8, 4), (16, 1, 5, 2), (2, 5), "must both be 1"),
        (
            (16, 8, 4),
            (16, 1, 5),
            (2, 5, 3),
            r"ids's ne is \[2, 5, 3, 1\], must be a matrix",
        ),
    ],
)
def test_mul_mat_id_with_invalid_sources_is_refused(
    experts: tuple[int, ...], b: tuple[int, ...], ids: tuple[int, ...], message: str
) -> None:
    assert_refused(mul_mat_id(experts, b, ids), message)


def test_add_id_with_ids_of_another_shape_is_refused() -> None:
    case = Case()
    ids = case.leaf(np.zeros((5, 3), int), GGMLType.I32)
    case.node(Op.ADD_ID, [case.leaf((8, 2, 5)), case.leaf((8, 4)), ids], (8, 2, 5))
    assert_refused(case, "a.ne.1. is 2, must equal ids.ne.0., 3")
