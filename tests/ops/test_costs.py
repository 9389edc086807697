"""Parameters and shapes that are cheap to send, but too expensive to compute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ggrpc.op import Op
from ggrpc.ops.convolution import Conv2dParams, ConvTranspose1dParams
from ggrpc.ops.deepseek import HcCombParams
from ggrpc.ops.generators import ArangeParams, TimestepEmbeddingParams
from ggrpc.ops.pooling import Pool1dParams, Pool2dParams
from ggrpc.ops.rope import RopeMode, RopeParams
from ggrpc.ops.unfolding import Col2im1dParams, Im2colParams
from ggrpc.ops.upscaling import UpscaleParams
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused

F32, F16, I32 = GGMLType.F32, GGMLType.F16, GGMLType.I32
HUGE = (1 << 31) - 1
MANY = 1 << 19


def one_node(
    op: Op, sources: Sequence[tuple[int, ...]], ne: Sequence[int], params: Any = None
) -> Case:
    """A node with sources of these shapes."""
    case = Case()
    leaves = [data(case, source) for source in sources]
    case.node(op, leaves, ne, params=params)
    return case


def data(case: Case, ne: Sequence[int], type: GGMLType = F32) -> Tensor:
    return case.node(Op.NONE, (), ne, type)


@pytest.mark.parametrize("k0", [0, -1, -HUGE, HUGE])
def test_pool_1d_with_an_empty_or_huge_window_is_refused(k0: int) -> None:
    params = Pool1dParams(0, k0, 1, HUGE // 2)
    case = one_node(Op.POOL_1D, [(8,)], (7,), params)
    assert_refused(case, "must have 1 to")


@pytest.mark.parametrize("op", [Op.POOL_2D, Op.POOL_2D_BACK])
def test_pool_2d_with_a_huge_window_is_refused(op: Op) -> None:
    params = Pool2dParams(1, 1 << 10, 1 << 10, 1, 1, 512, 512)
    sources = [(1, 1)] if op is Op.POOL_2D else [(1, 1), (1, 1)]
    assert_refused(one_node(op, sources, (1, 1), params), "the window is 1024 x 1024")


@pytest.mark.parametrize(
    ("op", "params", "sources"),
    [
        (Op.IM2COL, Im2colParams(1, 1, MANY, 0, 1, 1, 1), [(MANY, 1), (1, 1)]),
        (Op.IM2COL, Im2colParams(1, 1, MANY, 0, 1, 1, 0), [(MANY, 1), (1, 1)]),
        (Op.CONV_2D, Conv2dParams(1, 1, 512, 512, 1, 1), [(1024, 1024), (1, 1)]),
        (Op.CONV_2D_DW, Conv2dParams(1, 1, 512, 512, 1, 1), [(1024, 1024), (1, 1)]),
        (Op.CONV_TRANSPOSE_1D, ConvTranspose1dParams(1, 0, 1), [(MANY,), (2,)]),
    ],
)
def test_huge_window_is_refused(
    op: Op, params: Any, sources: list[tuple[int, ...]]
) -> None:
    assert_refused(one_node(op, sources, (1,), params), "a window has .* at most")


def test_channels_do_not_count_as_elements_of_a_window() -> None:
    """The kernel of a one-dimensional convolution may have many channels."""
    params = Im2colParams(1, 0, 0, 0, 1, 0, 0)
    case = one_node(Op.IM2COL, [(2, MANY), (2, MANY)], (7,), params)
    assert_refused(case, "the result's ne is")  # not the window


def test_col2im_with_a_huge_window_is_refused() -> None:
    case = one_node(Op.COL2IM_1D, [(MANY, 1)], (MANY,), Col2im1dParams(1, 1, 0))
    assert_refused(case, f"a window has {MANY} elements")


def test_hc_comb_with_too_many_iterations_is_refused() -> None:
    sources = [(24, 1), (3,), (24,)]
    case = one_node(Op.DSV4_HC_COMB, sources, (4, 4, 1), HcCombParams(0.1, HUGE))
    assert_refused(case, "must be 1 to 1000")


def test_ssm_conv_with_a_huge_window_is_refused() -> None:
    case = one_node(Op.SSM_CONV, [(MANY, 1), (MANY, 1)], (1, 1, 1))
    assert_refused(case, f"c.ne\\[0\\] is {MANY}")


def test_rope_with_too_many_dims_is_refused() -> None:
    mode = RopeMode.MROPE
    params = RopeParams(0, MANY, mode, 0, 1, 1e4, 1, 0, 1, 1, 1, 8, 8, 8, 8, 0)
    case = Case()
    a, pos = data(case, (MANY, 1, 1)), data(case, (4,), I32)
    case.node(Op.ROPE, [a, pos], a.ne, params=params)
    assert_refused(case, f"n_dims is {MANY}")


@pytest.mark.parametrize(("experts", "chosen"), [(MANY, 1), (1, MANY)])
def test_too_many_experts_are_refused(experts: int, chosen: int) -> None:
    case = Case()
    a, b = data(case, (1, 1, experts)), data(case, (1, 1, 1))
    ids = data(case, (chosen, 1), I32)
    case.node(Op.MUL_MAT_ID, [a, b, ids], (1, chosen, 1))
    assert_refused(case, f"{chosen} of {experts} experts")


def test_antialiased_pixel_of_too_many_others_is_refused() -> None:
    case = one_node(Op.UPSCALE, [(MANY,)], (1,), UpscaleParams(1 | 1 << 9))
    assert_refused(case, "a pixel covers")


@pytest.mark.parametrize(
    ("start", "stop", "step"),
    [
        (0.0, 3e38, 1e-38),
        (0.0, 1.0, 0.0),
        (0.0, float("nan"), 1.0),
        (float("-inf"), float("inf"), 1.0),
        (1.0, 0.0, 1.0),
    ],
)
def test_arange_has_as_many_steps_as_its_result(
    start: float, stop: float, step: float
) -> None:
    case = one_node(Op.ARANGE, [], (4,), ArangeParams(start, stop, step))
    assert_refused(case, "there are no values from")


def test_timestep_embedding_is_as_wide_as_its_result() -> None:
    params = TimestepEmbeddingParams(HUGE, 1000)
    case = one_node(Op.TIMESTEP_EMBEDDING, [(4,)], (8, 4), params)
    assert_refused(case, "the result's ne is")
