"""MUL_MAT by BLAS, in float32 throughout: activations are never rounded as ggml does.

In numpy's order a is (a3, a2, n, k), b is (b3, b2, m, k), the result (b3, b2, m, n), and
each matrix of `a` serves r3 * r2 matrices of `b`. Those are one product with more rows,
so that grouped-query attention of one token is no loop over vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.arrays import CODECS, GROUP, Array, Convert, pieces
from ggrpc.devices.cpu.program import WORTH_SHARING, Compiler, kernel
from ggrpc.devices.cpu.weights import Weight
from ggrpc.devices.cpu.workers import Step, Workers
from ggrpc.ops import Node, Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

# Rows of b from which BLAS's own preparation of a block is what counts, so that blocks
# are larger than what suits the codecs; they hold so many times as many elements.
MANY_ROWS = 32
LARGER = 16


class Block(NamedTuple):
    """Some rows of one matrix of `a` that are unpacked and multiplied at once.

    Attributes:
        packed: their bytes.
        values: where they are unpacked: (rows, k).
        b: what they are multiplied with: (..., R, k).
        y: where the product goes: (..., R, rows).
    """

    packed: Array
    values: Array
    b: Array
    y: Array


@kernel(Op.MUL_MAT)
def mul_mat(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] * b[i3, i2, i1, k]."""
    a, b = node.source(0), node.source(1)
    y = node.tensor
    out, rows = c.view(y), _folded(b, a)
    values = c.f32(b)
    target = _view_as(out, (*rows, y.ne[0]))
    if target is None or not _blas_takes(target):
        target = c.scratch((*rows, y.ne[0]))
    source = _view_as(values, (*rows, b.ne[0]))
    if source is None or not _blas_takes(source):
        source = c.scratch((*rows, b.ne[0]))
        c.step(np.copyto, source.reshape(values.shape), values)
    _multiply(c, a, source, target)
    if not np.may_share_memory(target, out):
        c.step(np.copyto, out, target.reshape(out.shape))


def _folded(b: Tensor, a: Tensor) -> tuple[int, int, int, int]:
    """(a3, r3, a2, R): R rows of b for each matrix of a, r3 times where they part."""
    r2, r3 = b.ne[2] // a.ne[2], b.ne[3] // a.ne[3]
    if a.ne[2] == 1:
        return a.ne[3], 1, 1, r3 * r2 * b.ne[1]
    return a.ne[3], r3, a.ne[2], r2 * b.ne[1]


def _view_as(array: Array, shape: Sequence[int]) -> Array | None:
    """The same memory in another shape, or None where its strides don't allow that."""
    view = array.reshape(shape)
    return view if np.may_share_memory(view, array) else None


def _blas_takes(x: Array) -> bool:
    """Whether the rows of each matrix lie as BLAS wants them."""
    row, element = x.strides[-2:]
    rows, columns = x.shape[-2:]
    return (
        x.flags.aligned
        and (columns == 1 or element == x.itemsize)
        and (rows == 1 or (row >= columns * x.itemsize and row % x.itemsize == 0))
    )


def _multiply(c: Compiler, a: Tensor, b: Array, y: Array) -> None:
    """Append y = b @ a.T, whatever a is made of.

    Args:
        c: the compiler.
        a: ne (k, n, a2, a3).
        b: (a3, r3, a2, R, k).
        y: (a3, r3, a2, R, n).
    """
    view = c.view(a)
    buffer, offset = c.place(a)
    if a.type is GGMLType.F32:
        if not _blas_takes(view):
            contiguous = c.scratch(view.shape)
            c.elementwise(np.positive, (view,), contiguous)
            view = contiguous
        c.step(_product_of(b, y), *_operands(b, view, y))
    elif not buffer.computed:
        unpack = partial(_unpack, CODECS[a.type].unpack, view, a.ne[::-1], c.workers)
        ...
