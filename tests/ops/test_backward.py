"""The contracts of the backward ops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from ggrpc.op import Op
from ggrpc.ops.attention import SoftMaxParams
from ggrpc.ops.backward import FlashAttnBackParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize(
    "op", [Op.SILU_BACK, Op.RMS_NORM_BACK, Op.SOFT_MAX_BACK], ids=lambda op: op.name
)
def test_backward_op_of_different_shapes_is_refused(op: Op) -> None:
    case = Case()
    case.node(op, [case.leaf((8, 3)), case.leaf((8, 1))], (8, 3))
    assert_refused(case, "a must have the shape of b")


def test_silu_back_of_two_types_is_refused() -> None:
    case = Case()
    sources = [case.leaf((8,)), case.leaf((8,), GGMLType.F16)]
    case.node(Op.SILU_BACK, sources, (8,))
    assert_refused(case, "a must have the type of b")


def test_soft_max_back_with_a_bias_is_refused() -> None:
    case, params = Case(), SoftMaxParams(1, 8)
    sources = [case.leaf((8,)), case.leaf((8,))]
    case.node(Op.SOFT_MAX_BACK, sources, (8,), params=params)
    assert_refused(case, "max_bias is 8.0, must be 0")


@pytest.mark.parametrize(
    ("grad", "ids", "message"),
    [
        ((8, 3), (4,), r"a.ne\[1\] is 3, must be at least b.ne\[0\], 4"),
        ((8, 3, 2), (3,), "a's ne is"),
        ((8, 3), (3, 2), "b's ne is"),
    ],
)
def test_get_rows_back_with_invalid_sources_is_refused(
    grad: Sequence[int], ids: Sequence[int], message: str
) -> None:
    case = Case()
    index = case.leaf(np.zeros(ids[::-1]), GGMLType.I32)
    case.node(Op.GET_ROWS_BACK, [case.leaf(grad), index], (8, 5))
    assert_refused(case, message)


def test_loss_of_different_shapes_is_refused() -> None:
    case = Case()
    sources = [case.leaf((8, 3)), case.leaf((8, 2))]
    case.node(Op.CROSS_ENTROPY_LOSS, sources, (1,))
    assert_refused(case, "a must have the shape of b")


def test_loss_back_of_several_gradients_is_refused() -> None:
    case = Case()
    sources = [case.leaf((2,)), case.leaf((8, 3)), case.leaf((8, 3))]
    case.node(Op.CROSS_ENTROPY_LOSS_BACK, sources, (8, 3))
    assert_refused(case, r"a's ne is \[2, 1, 1, 1\], must be \[1, 1, 1, 1\]")


@pytest.mark.parametrize(
    ("wrong", "masked", "message"),
    [
        ({"k": (5, 7, 3)}, 0, r"k.ne\[0\] is 5, must equal q.ne\[0\], 6"),
        ({"k": (6, 7, 2)}, 0, r"q.ne\[2\] is 3, must be a multiple of k"),
        ({"v": (6, 7, 3)}, 0, r"v's ne is \[6, 7, 3, 1\], must be \[7, 6, 3, 1\]"),
        ({"d": (6, 4, 3)}, 0, "d must have the shape of q"),
        (
            {"q": (6, 8, 3), "d": (6, 8, 3)},
            1,
            r"k.ne\[1\] is 7, must be at least q.ne\[1\], 8",
        ),
        ({}, 2, "masked is 2, must be 0 or 1"),
    ],
)
def test_flash_attn_back_with_invalid_sources_is_refused(
    wrong: dict[str, tuple[int, ...]], masked: int, message: str
) -> None:
    shapes = {"q": (6, 5, 3), "k": (6, 7, 3), "v": (7, 6, 3), "d": (6, 5, 3), **wrong}
    case = Case()
    sources = [case.leaf(ne) for ne in shapes.values()]
    params = FlashAttnBackParams(masked)
    case.node(Op.FLASH_ATTN_BACK, sources, (92 + 128 + 128,), params=params)
    assert_refused(case, message)
