"""IM2COL, IM2COL_3D, IM2COL_BACK, COL2IM_1D on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from tests.support.case import Case, run_case
from tests.support.cases.unfolding import cases
from tests.support.reference import assert_agree, by_definition
from tests.support.sliding import Axis, folded, unfolded


def define(node: Node, a: Array, b: Array | None = None) -> Array:
    if node.tensor.op == Op.COL2IM_1D:
        return define_col2im(node, a)
    assert b is not None
    if node.tensor.op == Op.IM2COL_BACK:
        return define_back(node, a, b)
    image, axes = b, axes_of(node, node.tensor.ne, a.shape)
    if node.tensor.op == Op.IM2COL_3D:
        channels = node.params.ic
        images = len(b) // channels
        image = b[: images * channels].reshape(images, channels, *b.shape[1:])
    elif not node.params.is_2d:
        image = b[0]
    windows = unfolded(image, axes)
    return np.moveaxis(windows, 1, len(axes) + 1).reshape(node.tensor.ne[::-1])


def axes_of(node: Node, ne: tuple[int, ...], kernel: tuple[int, ...]) -> list[Axis]:
    p = node.params
    axes = [Axis(ne[1], kernel[3], p.s0, p.p0, p.d0)]
    if node.tensor.op == Op.IM2COL_3D or p.is_2d:
        axes.insert(0, Axis(ne[2], kernel[2], p.s1, p.p1, p.d1))
    if node.tensor.op == Op.IM2COL_3D:
        depth = ne[3] // max(1, node.source(1).ne[3] // p.ic)
        axes.insert(0, Axis(depth, kernel[1], p.s2, p.p2, p.d2))
    return axes


def define_back(node: Node, columns: Array, kernel: Array) -> Array:
    axes = axes_of(node, node.source(0).ne, kernel.shape)
    sizes = node.tensor.ne[1::-1] if len(axes) == 2 else node.tensor.ne[:1]
    shape = [axis.windows for axis in axes] + [-1] + [axis.kernel for axis in axes]
    images = columns.shape[0] if len(axes) == 2 else columns.shape[1]
    windows = np.moveaxis(columns.reshape(images, *shape), len(axes) + 1, 1)
    return folded(windows, axes, sizes).reshape(node.tensor.ne[::-1])


def define_col2im(node: Node, columns: Array) -> Array:
    p, length = node.params, columns.shape[2]
    windows = columns.reshape(length, p.oc, -1).swapaxes(0, 1)
    axis = Axis(length, windows.shape[2], p.s0, p.p0)
    return folded(windows, [axis], node.tensor.ne[:1])[None, None]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_unfolding_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))
