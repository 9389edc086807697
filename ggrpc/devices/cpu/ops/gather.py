"""Gathering with one list of indices per axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import MIN_PARALLEL, Compiler
from ggrpc.formats.codecs import Array, Pieces, cast, pieces


def gather(c: Compiler, x: Array, indices: Mapping[int, Array], y: Array) -> None:
    """Append y[i3, i2, i1, i0] = x[n3[i3], n2[i2], n1[i1], n0[i0]].

    Args:
        c: the compiler.
        x: the source.
        indices: the indices by axis; an axis without indices is copied as it is.
        y: the target.
    """
    for axis in shrinking_first(x, y):
        if axis in indices:
            x = taken(c, x, axis, indices[axis])
    c.convert(cast, x, y)


def shrinking_first(x: Array, y: Array) -> list[int]:
    """The axes, those that shrink most first, to keep intermediate arrays small."""
    return sorted(range(x.ndim), key=lambda axis: y.shape[axis] / x.shape[axis])


def taken(c: Compiler, x: Array, axis: int, index: Array) -> Array:
    """Append a gather along an axis; returns x itself if the index has all in order."""
    if len(index) == x.shape[axis] and (index == np.arange(len(index))).all():
        return x
    out = c.scratch((*x.shape[:axis], len(index), *x.shape[axis + 1 :]))
    parts = across(c, out.shape, axis)
    c.parallel(partial(np.take, x[at], index, axis, out[at], "clip") for at in parts)
    return out


def across(c: Compiler, shape: Sequence[int], axis: int) -> Pieces:
    """Split a large array for the workers along any axis but the given one."""
    threads = c.workers.threads if math.prod(shape) >= MIN_PARALLEL else 1
    others = [1 if at == axis else n for at, n in enumerate(shape)]
    return [
        tuple(slice(None) if i == axis else part for i, part in enumerate(at))
        for at in pieces((*others, 1), threads)
    ]
