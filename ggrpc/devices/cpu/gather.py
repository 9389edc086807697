"""Elements taken by the same indices in every row, column or plane."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from ggrpc.devices.cpu.arrays import Array, cast, pieces
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
    large = out.size >= WORTH_SHARING
    shape = [1 if at == axis else n for at, n in enumerate(out.shape)]
    parts = pieces((*shape, 1), c.workers.threads if large else 1)
    c.parallel(partial(np.take, x[at], index, axis, out[at], "clip") for at in parts)
