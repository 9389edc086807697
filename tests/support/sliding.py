"""Sliding windows over an image by their definition, to check kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ggrpc.formats.codecs import Array


class Axis(NamedTuple):
    """The windows along an axis of an array."""

    windows: int
    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1

    @property
    def index(self) -> Array:
        """The index of each element, (windows, kernel); some are out of range."""
        start = np.arange(self.windows)[:, None] * self.stride - self.padding
        return start + np.arange(self.kernel) * self.dilation


def unfolded(x: Array, axes: Sequence[Axis], outside: float = 0) -> Array:
    """The windows over the last axes: (..., windows axes, kernel axes)."""
    lead = x.ndim - len(axes)
    for axis in axes:
        size, index = x.shape[lead], axis.index
        there = (index >= 0) & (index < size)
        x = np.moveaxis(x, lead, -1)[..., index.clip(0, size - 1)]
        x = np.where(there, x, outside)
    windows = range(lead, x.ndim, 2)
    return x.transpose(*range(lead), *windows, *(at + 1 for at in windows))


def folded(x: Array, axes: Sequence[Axis], sizes: Sequence[int]) -> Array:
    """Add windows (..., windows axes, kernel axes) to the elements that they cover."""
    lead, left = x.ndim - 2 * len(axes), len(axes)
    for axis, size in zip(axes, sizes, strict=True):
        x = np.moveaxis(x, (lead, lead + left), (-2, -1))
        there = (axis.index >= 0) & (axis.index < size)
        out = np.zeros((*x.shape[:-2], size))
        np.add.at(out, (..., axis.index[there]), x[..., there])
        x, left = out, left - 1
    return x
