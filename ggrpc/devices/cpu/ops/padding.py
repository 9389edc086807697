"""PAD, PAD_REFLECT_1D in numpy."""

from __future__ import annotations

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.gather import gather
from ggrpc.devices.cpu.ops.sliding import Slide, unfold
from ggrpc.formats.codecs import Array, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.padding import A

INDEX_BYTES = 24  # per element of an axis, to compute its indices


@kernel(Op.PAD)
def pad(node: Node, c: Compiler) -> None:
    x, y = c.view(node.source(A)), c.view(node.tensor)
    before = node.params.lp[::-1]
    if node.params.circular:
        c.retain(INDEX_BYTES * sum(y.shape))
        gather(c, x, {i: _circular(x, y, i, n) for i, n in enumerate(before)}, y)
        return
    slides = [Slide(x.shape[i], y.shape[i], 1, 1, n) for i, n in enumerate(before)]
    c.step(unfold(slides, x, y[np.newaxis, np.newaxis, np.newaxis, np.newaxis]))


def _circular(x: Array, y: Array, axis: int, before: int) -> Array:
    """The index in `x` of each element of `y` along an axis, with wrap-around."""
    indices: Array = (np.arange(y.shape[axis]) - before) % x.shape[axis]
    return indices


@kernel(Op.PAD_REFLECT_1D)
def pad_reflect_1d(node: Node, c: Compiler) -> None:
    """Pad rows by reflection; the first and last element are not repeated."""
    x, y, p = c.view(node.source(A)), c.view(node.tensor), node.params
    row = x.shape[-1]
    c.convert(cast, x, y[..., p.p0 : p.p0 + row])
    if p.p0:
        c.convert(cast, x[..., p.p0 : 0 : -1], y[..., : p.p0])
    if p.p1:
        after = x[..., row - 1 - p.p1 : row - 1][..., ::-1]
        c.convert(cast, after, y[..., p.p0 + row :])
