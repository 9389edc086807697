"""Properties of UPSCALE on the cpu device.

Only ggml defines the modes: tests/devices/test_against_ggml.py compares with it.
"""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.op import Op
from ggrpc.ops.upscaling import ScaleFlag, ScaleMode, UpscaleParams
from tests.support.case import Array, Case, run_case
from tests.support.cases.upscaling import MODES, cases


def upscaled(cpu: CpuDevice, mode: int, x: Array, ne: tuple[int, ...]) -> Array:
    case = Case()
    params = UpscaleParams(mode)
    case.node(Op.UPSCALE, [case.leaf(x)], ne, params=params, name="y")
    return run_case(cpu, case)["y"]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_upscale_has_the_same_result_with_any_threads(
    cpu: CpuDevice, case: Case
) -> None:
    alone = CpuDevice(threads=1)
    (ours,), (theirs,) = (run_case(d, case).values() for d in (cpu, alone))
    alone.close()
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_upscale_of_a_constant_image_is_constant(cpu: CpuDevice, mode: int) -> None:
    y = upscaled(cpu, mode, np.full((3, 4, 5), 2.5), (13, 2, 3))
    np.testing.assert_allclose(y, 2.5, rtol=1e-6)


def test_upscale_nearest_repeats_pixels(cpu: CpuDevice) -> None:
    x = np.arange(6).reshape(2, 3)
    y = upscaled(cpu, ScaleMode.NEAREST, x, (6, 4))
    np.testing.assert_array_equal(y[0, 0], x.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("mode", [ScaleMode.BILINEAR, ScaleMode.BICUBIC])
def test_upscale_keeps_aligned_corners(cpu: CpuDevice, mode: int) -> None:
    x = np.arange(12).reshape(3, 4)
    y = upscaled(cpu, mode | ScaleFlag.ALIGN_CORNERS, x, (10, 9))[0, 0]
    np.testing.assert_allclose(y[:: len(y) - 1, ::9], x[::2, ::3], atol=1e-5)


def test_upscale_half_with_antialias_averages_all_pixels(cpu: CpuDevice) -> None:
    x = np.zeros((1, 8))
    x[0, 2] = 1
    mode = ScaleMode.BILINEAR | ScaleFlag.ANTIALIAS
    y = upscaled(cpu, mode, x, (4, 1))[0, 0, 0]
    np.testing.assert_allclose(y, [1 / 7, 3 / 8, 0, 0], atol=1e-6)
