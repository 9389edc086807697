"""Elements taken by the same indices in every row, column or plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from ggrpc.devices.cpu.arrays import Array, Pieces, cast, pieces
from ggrpc.devices.cpu.program import WORTH_SHARING, Compiler


def gather(c: Compiler, x: Array, indices: Mapping[int, Array], y: Array) -> None:
    """Append y[i3, i2, i1, i0] = x[n3[i3], n2[i2], n1[i1], n0[i0]].

    Args:
        c: the compiler.
        x: what is taken from.
        indices: those of each axis; an axis that is not there is taken as it is.
        y: where it goes.
    """
    for axis, index in indices.items():
        if len(index) == x.shape[axis] and (index == np.arange(len(index))).all():
            continue
        taken = c.scratch((*x.shape[:axis], len(index), *x.shape[axis + 1 :]))
        _take(c, x, index, axis, taken)
        x = taken
    c.convert(cast, x, y)


def _take(c: Compiler, x: Array, index: Array, axis: int, out: Array) -> None:
    """Append a np.take, spread over the workers along one of the other axes."""
    parts = across(c, out.shape, axis)
    c.parallel(partial(np.take, x[at], index, axis, out[at], "clip") for at in parts)


def across(c: Compiler, shape: Sequence[int], axis: int) -> Pieces:
    """Cut an array for the workers, where it is large, along any axis but one."""
    threads = c.workers.threads if math.prod(shape) >= WORTH_SHARING else 1
    others = [1 if at == axis else n for at, n in enumerate(shape)]
    return [
        tuple(slice(None) if i == axis else part for i, part in enumerate(at))
        for at in pieces((*others, 1), threads)
    ]
