"""MUL_MAT_ID and ADD_ID in numpy.

Each expert's matrix is a separate weight in the cache, so that unused experts are never
unpacked. The rows of all tokens that use the same expert are multiplied together.
Threads take one expert after the other, with single-threaded BLAS, so that they
synchronise once per node instead of once per expert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.indices import index_check
from ggrpc.devices.cpu.ops.matmul import (
    blas_takes,
    blas_view,
    block_of,
    multiply_by_blocks,
    spread,
    unpacked,
)
from ggrpc.devices.cpu.weights import Weight, WeightCache
from ggrpc.devices.cpu.workers import Workers
from ggrpc.formats.codecs import CODECS, Array, Convert, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.experts import AS, IDS, A, B
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

Check = Callable[[Array], None]
Multiply = Callable[[int, Array, Array], object]  # (expert, rows, out = rows @ weight)
Chosen = tuple[int, Array]  # an expert, and the flat indices in ids that choose it

MAX_ROWS = 128  # of an expert to multiply at once; BLAS is hardly faster with more
IDS_BYTES = 64  # memory per id for sorting the ids and for the indices of rows
MIN_PARALLEL_PRODUCTS = 1 << 20  # multiplications for which several threads pay off


class _ThreadState(NamedTuple):
    """The scratch memory of a thread.

    Attributes:
        multiply: multiplies rows by an expert's matrix.
        rows: scratch for the rows.
        products: scratch for the products.
    """

    multiply: Multiply
    rows: Array
    products: Array


@kernel(Op.MUL_MAT_ID)
def mul_mat_id(node: Node, c: Compiler) -> None:
    """Append y[t, j, i] = sum_k as[ids[t, j], i, k] b[t, j % b1, k]."""
    experts, b, ids = node.source(AS), node.source(B), node.source(IDS)
    check = index_check(node, ids, experts.ne[2], "expert")
    c.check_parts(experts.ne[2] + ids.ne[0])
    c.retain(IDS_BYTES * ids.nelements)
    rows, chosen = _flat(c, c.f32(b)), c.view(ids)[0, 0]
    out = c.view(node.tensor)
    flat = (out.shape[1] * out.shape[2], out.shape[3])
    y = blas_view(out, flat)
    target = c.scratch(flat) if y is None else y
    if b.ne[2] == 1:
        row_of_each = [rows[j % len(rows)] for j in range(ids.ne[0])]
        multiply = _multipliers(c, experts, 1)[0]
        c.step(_one_token, check, chosen[0], multiply, row_of_each, list(target))
    else:
        states, row_of = _thread_states(c, experts, ids), _rows_of(ids, b)
        c.step(_many_tokens, c.workers, check, chosen, states, rows, row_of, target)
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
    """All rows of b as one matrix in a layout that BLAS accepts."""
    shape = (b.shape[1] * b.shape[2], b.shape[3])
    rows = blas_view(b, shape)
    if rows is None:
        rows = c.scratch(shape)
        c.convert(cast, b, rows.reshape(b.shape))
    return rows


def _rows_of(ids: Tensor, b: Tensor) -> Array:
    """For each flat index in ids, the index of the row of b to multiply."""
    token, j = np.divmod(np.arange(ids.ne[1] * ids.ne[0]), ids.ne[0])
    row: Array = token * b.ne[1] + j % b.ne[1]
    return row


def _one_token(
    check: Check, ids: Array, multiply: Multiply, rows: list[Array], y: list[Array]
) -> None:
    check(ids)
    for expert, row, out in zip(ids.tolist(), rows, y, strict=True):
        multiply(expert, row, out)


def _thread_states(c: Compiler, experts: Tensor, ids: Tensor) -> list[_ThreadState]:
    """The state of each thread; a small node gets only one."""
    k, n, _, _ = experts.ne
    large = ids.nelements * k * n >= MIN_PARALLEL_PRODUCTS
    size = min(ids.nelements, MAX_ROWS)
    return [
        _ThreadState(multiply, c.scratch((size, k)), c.scratch((size, n)))
        for multiply in _multipliers(c, experts, c.workers.threads if large else 1)
    ]


def _many_tokens(
    workers: Workers,
    check: Check,
    ids: Array,
    states: Sequence[_ThreadState],
    rows: Array,
    row_of: Array,
    y: Array,
) -> None:
    """Multiply the rows of each expert together."""
    check(ids)
    pending = _by_expert(ids.reshape(-1))
    tasks = [partial(_work, pending, rows, row_of, y, state) for state in states]
    if len(tasks) == 1:
        tasks[0]()
    else:
        workers.run(tasks)


def _by_expert(ids: Array) -> list[Chosen]:
    """The chosen experts, with at most MAX_ROWS flat indices in each entry."""
    order = ids.argsort(kind="stable")
    experts, starts = np.unique(ids[order], return_index=True)
    stops = [*starts[1:].tolist(), len(order)]
    return [
        (expert, order[at : min(at + MAX_ROWS, stop)])
        for expert, start, stop in zip(
            experts.tolist(), starts.tolist(), stops, strict=True
        )
        for at in range(start, stop, MAX_ROWS)
    ]


def _work(
    pending: list[Chosen], rows: Array, row_of: Array, y: Array, state: _ThreadState
) -> None:
    """Take experts from the list, which all threads share, until it is empty."""
    while pending:
        try:
            expert, places = pending.pop()
        except IndexError:  # another thread took the last one
            return
        taken, out = state.rows[: len(places)], state.products[: len(places)]
        rows.take(row_of[places], 0, out=taken, mode="clip")
        state.multiply(expert, taken, out)
        y[places] = out


def _multipliers(c: Compiler, experts: Tensor, count: int) -> list[Multiply]:
    """For each of `count` threads, a function that multiplies rows by an expert."""
    matrices = c.view(experts)[0]
    if experts.type is GGMLType.F32 and blas_takes(matrices):
        return [partial(_multiply_plain, list(matrices.swapaxes(-1, -2)))] * count
    place = c.place(experts)
    weight_of = cache(partial(_weight, c.weights, c.workers, place, experts, matrices))
    unpack, one = CODECS[experts.type].unpack, (*experts.ne[:2], 1, 1)
    if count == 1:
        unpack = partial(spread, c.workers, unpack)
    return [
        partial(
            _multiply_weight,
            weight_of,
            partial(_multiply_by_blocks, unpack, matrices, block_of(c, one)),
        )
        for _ in range(count)
    ]


def _weight(
    weights: WeightCache,
    workers: Workers,
    place: tuple[CpuBuffer, int],
    experts: Tensor,
    matrices: Array,
    at: int,
) -> Weight:
    """The matrix of one expert as a weight for the cache."""
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
    """Multiply without the cache: unpack a block of rows of the matrix at a time."""
    b, y = (np.atleast_2d(x)[None, None, None] for x in (rows, out))
    multiply_by_blocks(unpack, matrices[None, expert : expert + 1], block, b, y)
