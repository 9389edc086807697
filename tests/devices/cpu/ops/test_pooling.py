"""POOL_1D, POOL_2D, POOL_2D_BACK on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.pooling import PoolOp
from tests.support.case import Case, run_case
from tests.support.cases.pooling import cases
from tests.support.reference import assert_agree, by_definition
from tests.support.sliding import Axis, folded, unfolded

LOWEST = np.finfo(np.float32).min


def define(node: Node, x: Array, image: Array | None = None) -> Array:
    if image is not None:
        return define_back(node, x, image)
    axes = axes_of(node, node.tensor.ne)
    inner = tuple(range(-len(axes), 0))
    if node.params.op == PoolOp.MAX:
        return unfolded(x, axes, LOWEST).max(axis=inner)
    windows = unfolded(x, axes, np.nan if node.tensor.op == Op.POOL_1D else 0)
    count = np.isfinite(windows).sum(axis=inner)
    return np.nansum(windows, axis=inner) / np.maximum(count, 1)


def axes_of(node: Node, ne: tuple[int, ...]) -> list[Axis]:
    p = node.params
    width = Axis(ne[0], p.k0, p.s0, p.p0)
    if node.tensor.op == Op.POOL_1D:
        return [width]
    return [Axis(ne[1], p.k1, p.s1, p.p1), width]


def define_back(node: Node, grads: Array, image: Array) -> Array:
    p, axes = node.params, axes_of(node, node.source(0).ne)
    windows = unfolded(image, axes, LOWEST)
    flat = windows.reshape(*grads.shape, -1)
    if p.op == PoolOp.AVG:
        shares = np.full_like(flat, 1 / (p.k0 * p.k1))
    else:
        first = np.arange(flat.shape[-1]) == flat.argmax(axis=-1)[..., None]
        shares = first & (flat > LOWEST)
    shares = (shares * grads[..., None]).reshape(windows.shape)
    return folded(shares, axes, list(image.shape[2:]))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_pooling_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))
