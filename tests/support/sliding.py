"""Windows over an image by their definition, an index at a time, to compare with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.arrays import Array


class Axis(NamedTuple):
    """How windows lie along an axis of an array."""

    windows: int
    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1

    @property
    def index(self) -> Array:
        """(windows, kernel): which element each is; some lie outside."""
        start = np.arange(self.windows)[:, None] * self.stride - self.padding
        return start + np.arange(self.kernel) * self.dilation


def unfolded(x: Array, axes: list[Axis], outside: float = 0) -> Array:
    """The windows over the last axes: each becomes two, of windows and of elements."""
    for at, axis in enumerate(axes):
        place = at - len(axes)
        size, index = x.shape[place], axis.index
        taken = np.take(np.moveaxis(x, place, -1), index.clip(0, size - 1), axis=-1)
        taken = np.where((index >= 0) & (index < size), taken, outside)
        x = np.moveaxis(taken, (-2, -1), (place - 1, place))
    return interleaved(x, len(axes))


def interleaved(x: Array, count: int) -> Array:
    """From what `unfolded` has in the end to (..., windows axes, kernel axes)."""
    lead = x.ndim - 2 * count
    windows = [lead + 2 * at for at in range(count)]
    return x.transpose(*range(lead), *windows, *(at + 1 for at in windows))


def folded(x: Array, axes: list[Axis], sizes: list[int]) -> Array:
    """The windows (..., windows axes, kernel axes) summed up where they lie."""
    for axis, size in zip(reversed(axes), reversed(sizes), strict=True):
        count = len(axes)
        x = np.moveaxis(x, (x.ndim - 1 - count, x.ndim - 1), (-2, -1))
        index = axis.index
        there = (index >= 0) & (index < size)
        out = np.zeros((*x.shape[:-2], size))
        np.add.at(out, (..., index[there]), x[..., there])
        x = out
        break
    return x
