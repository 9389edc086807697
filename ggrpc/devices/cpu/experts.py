"""MUL_MAT_ID and ADD_ID in numpy.

Each expert's matrix is a weight of its own to the cache, so that those that nobody asks
for are never unpacked. Of several tokens, those of one expert are multiplied together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from ggrpc.devices.cpu.arrays import CODECS, Array, Convert, cast
from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.indices import index_check
from ggrpc.devices.cpu.matmul import (
    blas_takes,
    blas_view,
    block_of,
    multiply_by_blocks,
    spread,
    unpacked,
)
from ggrpc.devices.cpu.program import Compiler, kernel
from ggrpc.devices.cpu.weights import Weight, WeightCache
from ggrpc.devices.cpu.workers import Workers
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.experts import AS, IDS, A, B
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

Check = Callable[[Array], None]
Multiply = Callable[[int, Array, Array], object]  # (expert, rows, where rows @ w go)


@kernel(Op.MUL_MAT_ID)
def mul_mat_id(node: Node, c: Compiler) -> None:
    """Append y[t, j, i] = sum_k as[ids[t, j], i, k] b[t, j % b1, k]."""
    experts, b, ids = node.source(AS), node.source(B), node.source(IDS)
    check = index_check(node, ids, experts.ne[2], "expert")
    multiply = _multiplier(c, experts)
    rows, chosen = _flat(c, c.f32(b)), c.view(ids)[0, 0]
    out = c.view(node.tensor)
    flat = (out.shape[1] * out.shape[2], out.shape[3])
    y = blas_view(out, flat)
    target = c.scratch(flat) if y is None else y
    if b.ne[2] == 1:
        serving = [rows[j % len(rows)] for j in range(ids.ne[0])]
        c.step(_one_token, check, chosen[0], multiply, serving, list(target))
    else:
        used = c.scratch((b.ne[2], b.ne[0])), c.scratch((b.ne[2], flat[1]))
        row_of = _rows_of(ids, b)
        c.step(_many_tokens, check, chosen, multiply, rows, row_of, target, *used)
    if y is None:
        c.convert(cast, target.reshape(out.shape), out)


@kernel(Op.ADD_ID)
def add_id(node: Node, c: Compiler) -> None:
    """y[t, j] = a[t, j] + b[ids[t, j]]."""
    b, ids = node.source(B), node.source(IDS)
    check = index_check(node, ids, b.ne[1])
    a, rows, y = c.view(node.source(A)), c.view(b)[0, 0], c.view(node.tensor)
    chosen = c.view(ids)[0, 0]
    c.step(_add_id, check, a, rows, chosen, y, c.scratch(y.shape[1:]))


def _add_id(
    check: Check, a: Array, rows: Array, ids: Array, y: Array, added: Array
) -> None:
    check(ids)
    rows.take(ids, 0, out=added, mode="clip")
    np.add(a, added, y)


def _flat(c: Compiler, b: Array) -> Array:
    """All rows of b one below the other, as BLAS takes them."""
    shape = (b.shape[1] * b.shape[2], b.shape[3])
    rows = blas_view(b, shape)
    if rows is None:
        rows = c.scratch(shape)
        c.convert(cast, b, rows.reshape(b.shape))
    return rows


def _rows_of(ids: Tensor, b: Tensor) -> Array:
    """For each place in ids, counted through, which row of b it wants multiplied."""
    token, j = np.divmod(np.arange(ids.ne[1] * ids.ne[0]), ids.ne[0])
    row: Array = token * b.ne[1] + j % b.ne[1]
    return row


def _one_token(
    check: Check, ids: Array, multiply: Multiply, rows: list[Array], y: list[Array]
) -> None:
    check(ids)
    for expert, row, out in zip(ids.tolist(), rows, y, strict=True):
        multiply(expert, row, out)


def _many_tokens(
    check: Check,
    ids: Array,
    multiply: Multiply,
    rows: Array,
    row_of: Array,
    y: Array,
    used: Array,
    made: Array,
) -> None:
    """Multiply the rows of each expert together, `used` at most at a time."""
    check(ids)
    flat = ids.reshape(-1)
    order = flat.argsort(kind="stable")
    experts, starts = np.unique(flat[order], return_index=True)
    stops = [*starts[1:].tolist(), len(order)]
    for expert, first, stop in zip(
        experts.tolist(), starts.tolist(), stops, strict=True
    ):
        for start in range(first, stop, len(used)):
            places = order[start : min(stop, start + len(used))]
            taken, out = used[: len(places)], made[: len(places)]
            rows.take(row_of[places], 0, out=taken, mode="clip")
            multiply(expert, taken, out)
            y[places] = out


def _multiplier(c: Compiler, experts: Tensor) -> Multiply:
    """What multiplies rows with the matrix of an expert."""
    matrices = c.view(experts)[0]
    if experts.type is GGMLType.F32 and blas_takes(matrices):
        return partial(_multiply_plain, list(matrices.swapaxes(-1, -2)))
    place = c.place(experts)
    weight_of = cache(partial(_weight, c.weights, c.workers, place, experts, matrices))
    unpack = partial(spread, c.workers, CODECS[experts.type].unpack)
    block = block_of(c, (*experts.ne[:2], 1, 1))
    by_blocks = partial(_multiply_by_blocks, unpack, matrices, block)
    return partial(_multiply_weight, weight_of, by_blocks)


def _weight(
    weights: WeightCache,
    workers: Workers,
    place: tuple[CpuBuffer, int],
    experts: Tensor,
    matrices: Array,
    at: int,
) -> Weight:
    """The matrix of one expert, which the cache may keep."""
    buffer, offset = place
    one = experts._replace(ne=(*experts.ne[:2], 1, 1))
    packed = matrices[at : at + 1][np.newaxis]
    unpack = partial(unpacked, CODECS[one.type].unpack, packed, one.ne[0], workers)
    return weights.weight(buffer, offset + at * experts.nb[2], one, unpack)


def _multiply_plain(
    matrices: list[Array], expert: int, rows: Array, out: Array
) -> None:
    np.dot(rows, matrices[expert], out)


def _multiply_weight(
    weight_of: Callable[[int], Weight],
    otherwise: Multiply,
    expert: int,
    rows: Array,
    out: Array,
) -> None:
    values = weight_of(expert).values()
    if values is None:
        otherwise(expert, rows, out)
    else:
        np.dot(rows, values, out)


def _multiply_by_blocks(
    unpack: Convert,
    matrices: Array,
    block: Array,
    expert: int,
    rows: Array,
    out: Array,
) -> None:
    """Unpack some rows of the expert's matrix at a time, in little memory."""
    b, y = (np.atleast_2d(x)[None, None, None] for x in (rows, out))
    multiply_by_blocks(unpack, matrices[None, expert : expert + 1], block, b, y)
