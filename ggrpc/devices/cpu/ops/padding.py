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

INDICES = 24  # bytes for each element of an axis, while its indices are computed


@kernel(Op.PAD)
def pad(node: Node, c: Compiler) -> None:
    x, y = c.view(node.source(A)), c.view(node.tensor)
    in_front = node.params.lp[::-1]
    if node.params.circular:
        c.retain(INDICES * sum(y.shape))
        gather(c, x, {i: _around(x, y, i, n) for i, n in enumerate(in_front)}, y)
        return
    slides = [Slide(x.shape[i], y.shape[i], 1, 1, n) for i, n in enumerate(in_front)]
    c.step(unfold(slides, x, y[np.newaxis, np.newaxis, np.newaxis, np.newaxis]))


def _around(x: Array, y: Array, axis: int, in_front: int) -> Array:
    """Which element of `x` each of `y` is, if that goes round and round."""
    indices: Array = (np.arange(y.shape[axis]) - in_front) % x.shape[axis]
    return indices


@kernel(Op.PAD_REFLECT_1D)
def pad_reflect_1d(node: Node, c: Compiler) -> None:
    """The border mirrors the row at its first and last element, without those."""
    x, y, p = c.view(node.source(A)), c.view(node.tensor), node.params
    row = x.shape[-1]
    c.convert(cast, x, y[..., p.p0 : p.p0 + row])
    if p.p0:
        c.convert(cast, x[..., p.p0 : 0 : -1], y[..., : p.p0])
    if p.p1:
        behind = x[..., row - 1 - p.p1 : row - 1][..., ::-1]
        c.convert(cast, behind, y[..., p.p0 + row :])
