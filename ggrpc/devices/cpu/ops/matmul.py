"""MUL_MAT and OUT_PROD with BLAS, in float32; unlike ggml, without quantizing b.

In numpy's order, a has shape (a3, a2, n, k), b (b3, b2, m, k) and the result
(b3, b2, m, n). Each matrix of `a` is multiplied with r3 * r2 matrices of `b`. These are
merged into one matrix with more rows, so that grouped-query attention of one token
needs no loop over vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import MIN_PARALLEL, Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.mapped_memory import mapped
from ggrpc.devices.cpu.weights import Weight
from ggrpc.devices.cpu.workers import Step, Workers
from ggrpc.formats.codecs import CODECS, GROUP, Array, Convert, pieces
from ggrpc.ops import Node, Op
from ggrpc.tensor import Dims, Tensor
from ggrpc.types import GGMLType

# A matrix that is not cached is unpacked in blocks of at least this many groups (see
# `codecs.GROUP`), and of this many per thread. That is enough for BLAS to be efficient,
# and still fits the cache that threads share.
MIN_GROUPS = 16
GROUPS_PER_THREAD = 4

Product = Callable[[Array, Array, Array], object]


@kernel(Op.MUL_MAT)
def mul_mat(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k]."""
    a, b = node.source(0), node.source(1)
    folded = _fold(a, b)
    values, out = c.f32(b), c.view(node.tensor)
    rows = blas_view(values, (*folded, b.ne[0]))
    if rows is None:
        rows = c.scratch((*folded, b.ne[0]))
        c.convert(_copy, values, rows.reshape(values.shape))
    y = blas_view(out, (*folded, a.ne[1]))
    if y is not None:
        _multiply(c, a, rows, y)
        return
    y = c.scratch((*folded, a.ne[1]))
    _multiply(c, a, rows, y)
    c.convert(_copy, y.reshape(out.shape), out)


@kernel(Op.OUT_PROD)
def out_prod(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, k, i0] b[i3, i2, k, i1]."""
    a, b = node.source(0), node.source(1)
    values, y = c.f32(a)[:, np.newaxis, :, np.newaxis], c.view(node.tensor)
    lead = a.ne[3], b.ne[3] // max(1, a.ne[3]), a.ne[2], b.ne[2] // max(1, a.ne[2])
    columns = c.f32(b).reshape(*lead, *b.ne[1::-1]).swapaxes(-1, -2)
    c.step(np.matmul, columns, values, y.reshape(*lead, *y.shape[2:]))


_copy = CODECS[GGMLType.F32].unpack


def _fold(a: Tensor, b: Tensor) -> tuple[int, int, int, int]:
    """The shape of the merged `b` without k, (a3, r3, a2, R).

    Each matrix of `a` is multiplied with r3 matrices of R rows.
    """
    r2, r3 = b.ne[2] // a.ne[2], b.ne[3] // a.ne[3]
    if a.ne[2] == 1:
        return a.ne[3], 1, 1, r3 * r2 * b.ne[1]
    return a.ne[3], r3, a.ne[2], r2 * b.ne[1]


def blas_view(array: Array, shape: Sequence[int]) -> Array | None:
    """A view in another shape that BLAS accepts; None if there is none."""
    view = array.reshape(shape)
    if np.may_share_memory(view, array) and blas_takes(view):
        return view
    return None


def blas_takes(x: Array) -> bool:
    """Whether numpy passes the matrices to BLAS without a copy."""
    rows, columns = x.shape[-2:]
    row, element = x.strides[-2:]
    return bool(
        x.flags.aligned
        and (columns == 1 or element == x.itemsize)
        and (rows == 1 or (row >= columns * x.itemsize and row % x.itemsize == 0))
    )


def _multiply(c: Compiler, a: Tensor, b: Array, y: Array) -> None:
    """Append y = b @ a.T.

    Args:
        c: the compiler.
        a: ne (k, n, a2, a3), of any type.
        b: (a3, r3, a2, R, k).
        y: (a3, r3, a2, R, n).
    """
    if a.type is not GGMLType.F32 and not c.place(a)[0].computed:
        _multiply_weight(c, a, b, y)
    elif a.type is not GGMLType.F32 and a.nelements >= MIN_PARALLEL:
        c.step(_by_blocks(c, a, b, y))
    else:
        values = c.f32(a)
        if not blas_takes(values):
            strided, values = values, c.scratch(values.shape)
            c.convert(_copy, strided, values)
        c.step(_product(y), _only(b), _transposed(values), _only(y))


def _multiply_weight(c: Compiler, a: Tensor, b: Array, y: Array) -> None:
    """Append the product with a tensor that may be in the weight cache."""
    unpack = partial(unpacked, CODECS[a.type].unpack, c.view(a), a.ne[0], c.workers)
    weight = c.weights.weight(*c.place(a), a, unpack)
    otherwise = _by_blocks(c, a, b, y)
    c.step(_run_weight, weight, _product(y), _only(b), _only(y), otherwise)


def _run_weight(
    weight: Weight, product: Product, b: Array, y: Array, otherwise: Step
) -> None:
    values = weight.values()
    if values is None:
        otherwise()
    else:
        product(b, values, y)


def unpacked(function: Convert, packed: Array, k: int, workers: Workers) -> Array:
    """Unpack a whole weight.

    Args:
        function: the codec's `unpack`.
        packed: (a3, a2, n, bytes or elements of a row).
        k: the number of elements in a row.
        workers: the threads to use.

    Returns:
        The weight in the shape that `_transposed` returns.
    """
    shape = (*packed.shape[:-1], k)
    values: Array = np.ndarray(shape, np.float32, mapped(4 * math.prod(shape)))
    spread(workers, function, packed, values)
    return _transposed(values)


def spread(workers: Workers, function: Convert, x: Array, y: Array) -> None:
    """Convert an array; a large one is split over the workers."""
    count = workers.threads if y.size >= MIN_PARALLEL else 1
    rows = pieces((*x.shape[:-1], 1), count)
    workers.run(partial(function, x[at], y[at]) for at in rows)


def _only(x: Array) -> Array:
    """The matrix without leading axes if there is only one."""
    matrix: Array = x[0, 0, 0]
    return matrix if x.shape[:3] == (1, 1, 1) else x


def _transposed(values: Array) -> Array:
    """Transpose (a3, a2, n, k) to the right factor of a product with `_only(b)`."""
    one = values.shape[:2] == (1, 1)
    matrices: Array = values[0, 0] if one else values[:, np.newaxis]
    return matrices.swapaxes(-1, -2)


def _product(y: Array) -> Product:
    """np.dot if possible, which is half a microsecond faster than np.matmul."""
    return np.dot if _only(y).ndim == 2 and y.flags.c_contiguous else np.matmul


def _by_blocks(c: Compiler, a: Tensor, b: Array, y: Array) -> Step:
    """A step that unpacks and multiplies one block of rows of `a` after the other."""
    unpack = partial(spread, c.workers, CODECS[a.type].unpack)
    block = block_of(c, a.ne)
    return partial(multiply_by_blocks, unpack, c.view(a), block, b, y)


def block_of(c: Compiler, ne: Dims) -> Array:
    """Scratch for a block of rows of each of the a2 matrices: (a2, rows, k)."""
    k, n, a2, _ = ne
    elements = GROUP * max(MIN_GROUPS, GROUPS_PER_THREAD * c.workers.threads)
    return c.scratch((a2, max(1, min(elements // max(1, k * a2), n)), k))


def multiply_by_blocks(
    unpack: Convert, a: Array, block: Array, b: Array, y: Array
) -> None:
    """Compute y = b @ a.T for a packed `a`, (a3, a2, n, bytes).

    `block` is scratch of shape (a2, rows, k); see `block_of`.
    """
    size = block.shape[1]
    for packed, rows, out in zip(a, b, y, strict=True):
        for start in range(0, packed.shape[1], size):
            part = packed[:, start : start + size]
            values = block[:, : part.shape[1]]
            unpack(part, values)
            # One product at a time; BLAS uses all threads.
            np.matmul(rows, values.swapaxes(-1, -2), out[..., start : start + size])
