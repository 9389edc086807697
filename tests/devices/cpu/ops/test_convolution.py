"""CONV_2D, CONV_2D_DW, CONV_3D, CONV_TRANSPOSE_1D and _2D, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.convolution import Conv2dParams
from tests.support.case import Case, run_case
from tests.support.cases.convolution import cases, channels_first
from tests.support.reference import assert_agree, by_definition
from tests.support.sliding import Axis, folded, unfolded


def define(node: Node, a: Array, b: Array) -> Array:
    op, p = node.tensor.op, node.params
    if op == Op.CONV_3D:
        a = a.reshape(p.oc, p.c, *a.shape[1:])
        b = b.reshape(p.n, p.c, *b.shape[1:])
    if op in (Op.CONV_TRANSPOSE_1D, Op.CONV_TRANSPOSE_2D):
        return define_transposed(node, a, b)
    axes = axes_of(node)
    windows = unfolded(b, axes)
    inner = tuple(range(-len(axes), 0))
    if op == Op.CONV_2D_DW:
        return (windows * a[:, 0, None, None]).sum(axis=inner)
    y = np.tensordot(windows, a, axes=((1, *inner), (1, *inner)))
    return np.moveaxis(y, -1, 1).reshape(node.tensor.ne[::-1])


def axes_of(node: Node) -> list[Axis]:
    k, y, p = node.source(0).ne, node.tensor.ne, node.params
    axes = [Axis(y[1], k[1], p.s1, p.p1, p.d1), Axis(y[0], k[0], p.s0, p.p0, p.d0)]
    if node.tensor.op == Op.CONV_3D:
        axes.insert(0, Axis(y[2], k[2], p.s2, p.p2, p.d2))
    return axes


def define_transposed(node: Node, a: Array, b: Array) -> Array:
    count = 1 if node.tensor.op == Op.CONV_TRANSPOSE_1D else 2
    if count == 1:
        a, b = a[0], b[0]
    windows = np.moveaxis(np.tensordot(b, a, axes=((1,), (0,))), count + 1, 1)
    pairs = zip(b.shape[2:], a.shape[2:], strict=True)
    axes = [Axis(n, k, node.params.s0) for n, k in pairs]
    y = folded(windows, axes, node.tensor.ne[:count][::-1])
    return y.reshape(node.tensor.ne[::-1])


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_convolution_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_conv_2d_accepts_permuted_kernels(cpu: CpuDevice) -> None:
    """Unlike other devices, ggml's cpu backend refuses permuted kernels."""
    case = Case()
    a, b = channels_first(case, (3, 2, 4, 5)), case.leaf((9, 8, 4))
    params = Conv2dParams(1, 1, 0, 0, 1, 1)
    case.node(Op.CONV_2D, [a, b], (7, 7, 5), params=params)
    assert_agree(case, run_case(cpu, case), by_definition(case, define))
