"""UPSCALE in numpy, one axis after the other.

In each mode, an element of the result is the weighted sum of a few elements of the
source along the axis (its taps). Positions are computed in float32, as in ggml.
Source: ggml_compute_forward_upscale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.gather import across, gather, shrinking_first, taken
from ggrpc.formats.codecs import Array, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.upscaling import A, ScaleFlag, ScaleMode

# Memory per element of an axis, of the source or the result, to compute its taps: a few
# arrays of up to four numbers of 8 bytes.
TAPS_BYTES = 192

ALPHA = -0.75  # of the bicubic weights, as in PyTorch


class Axis(NamedTuple):
    """One axis of the source and the result.

    Attributes:
        size: the length in the source.
        result: the length in the result.
        scale: the length of the result divided by that of the source.
        offset: the position of the value in its element: 0.5 for the middle.
    """

    size: int
    result: int
    scale: np.float32
    offset: np.float32

    @classmethod
    def of(cls, size: int, result: int, align_corners: bool, planar: bool) -> Axis:
        """An axis; corners are aligned only for the two axes of the plane."""
        scale = np.float32(result) / np.float32(size)
        if align_corners and planar and result > 1 and size > 1:
            scale = np.float32(result - 1) / np.float32(size - 1)
        return cls(size, result, scale, np.float32(0 if align_corners else 0.5))

    @property
    def nearest(self) -> Array:
        """The index in the source of each element of the result."""
        at = np.arange(self.result, dtype=np.float32) / self.scale
        return self.inside(at.astype(np.int64))

    @property
    def centres(self) -> Array:
        """The position in the source of each element of the result, plus the offset."""
        at: Array = np.arange(self.result, dtype=np.float32) + self.offset
        return np.divide(at, self.scale)

    def inside(self, at: Array) -> Array:
        """Clamp indices to the source."""
        return np.clip(at, 0, self.size - 1)


class Taps(NamedTuple):
    """The taps of each element of the result.

    Attributes:
        elements: the indices in the source, (taps, result).
        weight: the weights, float32 (taps, result).
    """

    elements: Array
    weight: Array


def _bilinear(axis: Axis) -> Taps:
    x = axis.centres - axis.offset
    first = np.floor(x).astype(np.int64)
    index = axis.inside(np.stack([first, first + 1]))
    part = np.clip(x - index[0].astype(np.float32), 0, 1)
    return Taps(index, np.stack([1 - part, part]))


def _bicubic(axis: Axis) -> Taps:
    x = axis.centres - axis.offset
    first = np.floor(x).astype(np.int64)
    index = axis.inside(first + np.arange(-1, 3)[:, np.newaxis])
    part = x - first.astype(np.float32)
    weights = _outer(part + 1), _inner(part), _inner(1 - part), _outer(2 - part)
    return Taps(index, np.stack(weights).astype(np.float32))


def _inner(x: Array) -> Array:
    """The bicubic weight at a distance of 0 to 1."""
    weight: Array = ((ALPHA + 2) * x - (ALPHA + 3)) * x * x + 1
    return weight


def _outer(x: Array) -> Array:
    """The bicubic weight at a distance of 1 to 2."""
    weight: Array = ((ALPHA * x - 5 * ALPHA) * x + 8 * ALPHA) * x - 4 * ALPHA
    return weight


def _antialiased(axis: Axis) -> Taps:
    """A triangle filter as wide as an element of the larger of source and result."""
    x, support = axis.centres, np.maximum(np.float32(1), 1 / axis.scale)
    first = np.maximum(x - support + axis.offset, 0).astype(np.int64)
    last = np.minimum((x + support + axis.offset).astype(np.int64), axis.size)
    index = first + np.arange(max(1, (last - first).max()))[:, np.newaxis]
    distance = (index.astype(np.float32) - x + axis.offset) / support
    weight = np.where(index < last, np.maximum(1 - np.abs(distance), 0), 0)
    total = weight.sum(axis=0, dtype=np.float32)
    weight = np.divide(weight, total, where=total > 0, out=np.zeros_like(weight))
    return Taps(axis.inside(index), weight.astype(np.float32))


TAPS: dict[ScaleMode, Callable[[Axis], Taps]] = {
    ScaleMode.BILINEAR: _bilinear,
    ScaleMode.BICUBIC: _bicubic,
}


@kernel(Op.UPSCALE)
def upscale(node: Node, c: Compiler) -> None:
    x, y = c.view(node.source(A)), c.view(node.tensor)
    mode = ScaleMode(node.params.mode & 0xFF)
    align = bool(node.params.mode & ScaleFlag.ALIGN_CORNERS)
    sizes = enumerate(zip(x.shape, y.shape, strict=True))
    axes = [Axis.of(n, m, align, planar=i >= 2) for i, (n, m) in sizes]
    c.retain(TAPS_BYTES * (sum(x.shape) + sum(y.shape)))
    if mode == ScaleMode.NEAREST:
        gather(c, x, {i: axis.nearest for i, axis in enumerate(axes)}, y)
        return
    smooth = node.params.mode & ScaleFlag.ANTIALIAS
    taps = _antialiased if smooth else TAPS[mode]
    for i in shrinking_first(x, y):
        if i < 2:
            x = taken(c, x, i, axes[i].nearest)
        else:
            x = _blended(c, x, i, taps(axes[i]))
    c.convert(cast, x, y)


def _blended(c: Compiler, x: Array, axis: int, taps: Taps) -> Array:
    """Append the weighted sum of the taps along an axis."""
    out = c.scratch((*x.shape[:axis], taps.weight.shape[1], *x.shape[axis + 1 :]))
    weights = [w if axis == 3 else w[:, np.newaxis] for w in taps.weight]
    pairs = list(zip(taps.elements, weights, strict=True))
    tasks = []
    for at in across(c, out.shape, axis):
        some = c.scratch(out[at].shape)
        tasks.append(partial(_sum_taps, pairs, axis, x[at], out[at], some))
    c.parallel(tasks)
    return out


def _sum_taps(
    pairs: Sequence[tuple[Array, Array]], axis: int, x: Array, y: Array, some: Array
) -> None:
    y.fill(0)
    for index, weight in pairs:
        np.take(x, index, axis, some, "clip")
        np.multiply(some, weight, some)
        np.add(y, some, y)
