"""Computes the recurrence of state-space models and linear attention.

For each token t in order:

    state = state * decay[t] + v[t] k[t]^T + (state a[t]) b[t]^T
    y[t] = state r[t]

The term with `a` is optional; its `state` is that before the token. Only tokens depend
on each other, so a step computes all heads, channels and sequences of a token. The work
is divided into blocks of the state that fit a processor's cache; each block is computed
for all tokens. If heads do not share k and r, `chunked_scan` computes most tokens in
chunks, and only the remaining ones are computed step by step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.ops import chunked_scan
from ggrpc.formats.codecs import Array, pieces

# Elements of the state in a block. Fewer need more calls; more do not fit the cache.
BLOCK = 1 << 16


class Scan(NamedTuple):
    """A recurrence over T tokens of n sequences.

    The state has G groups of heads that share k and r, R heads per group, D rows per
    head and S columns per row. The update of a token is one product of `update_rows`
    and `update_columns`, which have two vectors each: BLAS computes that faster than
    numpy an outer product.

    Attributes:
        start: the initial states, (n, G, R, D, S).
        slots: the final states, (K, n, G, R, D, S); slot s gets the state s tokens
            before the end.
        y: the result, (T, n, G, R, D).
        decay: (T, n, G, R, 1, 1) or (T, n, G, R, 1, S).
        update_rows: v and scratch for `state a`, (T, n, G, 2, R, D); zeros without `a`.
        update_columns: k and b, (T, n, G, 2, S); zeros instead of b without `a`.
        r: (T, n, G, S).
        a: (T, n, G, S), or None.
        rate: if not None, (G, R, 1, S); the state is multiplied by exp(decay * rate).
        reads_first: whether y[t] is computed from the state before the token.
    """

    start: Array
    slots: Array
    y: Array
    decay: Array
    update_rows: Array
    update_columns: Array
    r: Array
    a: Array | None = None
    rate: Array | None = None
    reads_first: bool = False

    def block(self, at: tuple[slice, ...]) -> Scan:
        """The part for an index of (n, G, R), as `pieces` returns it."""
        seqs, groups, heads = (*at, slice(None), slice(None))[:3]
        shared = slice(None), seqs, groups
        each = (*shared, heads)
        return self._replace(
            start=self.start[each[1:]],
            slots=self.slots[each],
            y=self.y[each],
            decay=self.decay[each],
            update_rows=self.update_rows[(*shared, slice(None), heads)],
            update_columns=self.update_columns[shared],
            r=self.r[shared],
            a=None if self.a is None else self.a[shared],
            rate=None if self.rate is None else self.rate[groups, heads],
        )


class _Work(NamedTuple):
    """A block with its scratch memory; the heads of a group are merged to R * D rows.

    Attributes:
        scan: the block.
        state: (n, G, R, D, S).
        rows: a view of `state` as (n, G, R * D, S).
        added: scratch for the update of a token, like `rows`.
        factor: scratch for the decay if there is a rate.
        left: (T, n, G, R * D, 2); the update is `left` times `right`.
        right: (T, n, G, 2, S).
        sums: the part of `left` for `state a`, (T, n, G, R * D, 1).
        y, r, a: the vectors as matrices with one column.
        chunks: computes the first tokens many at a time; None if that is not possible.
    """

    scan: Scan
    state: Array
    rows: Array
    added: Array
    factor: Array
    left: Array
    right: Array
    sums: Array
    y: Array
    r: Array
    a: Array | None
    chunks: chunked_scan.Chunks | None


def run_scan(s: Scan, c: Compiler) -> None:
    """Append the steps of a recurrence."""
    shape = s.slots.shape[1:]
    if not s.y.size:
        return
    count = max(1, math.ceil(math.prod(shape) / BLOCK))
    blocks = [s.block(at) for at in pieces((*shape[:3], 1), count)]
    threads = min(c.workers.threads, len(blocks))
    size = max(block.slots[0].size for block in blocks)
    extra = max(map(_chunk_scratch_size, blocks))
    tasks = []
    for i in range(threads):
        scratch = c.scratch((size,)), c.scratch((size,)), c.scratch((extra,))
        share = [_work(block, *scratch) for block in blocks[i::threads]]
        tasks.append(partial(_run, share))
    c.parallel(tasks)


def _chunks_of(s: Scan) -> int:
    """The number of chunks that `chunked_scan` can compute.

    It needs one head per group and no rate. The states of the last tokens, which go to
    the slots, must be computed step by step.
    """
    tokens = len(s.y) - (len(s.slots) if len(s.slots) > 1 else 0)
    possible = s.rate is None and s.slots.shape[3] == 1
    return max(0, tokens) // chunked_scan.TOKENS if possible else 0


def _chunk_scratch_size(s: Scan) -> int:
    count = _chunks_of(s)
    if not count:
        return 0
    return chunked_scan.scratch_size(_vectors(s), count, s.slots[0, :, :, 0].shape)


def _vectors(s: Scan) -> chunked_scan.Vectors:
    pairs = 1 if s.a is None else 2
    return chunked_scan.Vectors(
        decay=s.decay[:, :, :, 0, 0],
        rows=s.update_rows[:, :, :, 0, 0],
        columns=s.update_columns[:, :, :, :pairs],
        r=s.r,
        a=s.a,
        y=s.y[:, :, :, 0],
    )


def _work(s: Scan, added: Array, factor: Array, scratch: Array) -> _Work:
    state, count = s.slots[0], _chunks_of(s)
    *lead, heads, rows, columns = state.shape
    merged = *lead, heads * rows
    left = s.update_rows.reshape(len(s.y), *lead, 2, heads * rows)
    added = _like(state, added[: state.size])
    many = None
    if count:
        one = state[:, :, 0], added[:, :, 0]
        many = chunked_scan.Chunks.of(_vectors(s), count, *one, scratch, s.reads_first)
    return _Work(
        scan=s,
        state=state,
        rows=state.reshape(*merged, columns),
        added=added.reshape(*merged, columns),
        factor=factor[: state.size // rows].reshape(*lead, heads, 1, columns),
        left=left.swapaxes(-1, -2),
        right=s.update_columns,
        sums=left[..., 1, :, None],
        y=s.y.reshape(len(s.y), *merged, 1),
        r=s.r[..., None],
        a=None if s.a is None else s.a[..., None],
        chunks=many,
    )


def _like(state: Array, memory: Array) -> Array:
    """Memory with the shape and the memory order of the state."""
    *lead, rows, columns = state.shape
    if state.strides[-1] <= state.strides[-2]:
        return memory.reshape(state.shape)
    return memory.reshape(*lead, columns, rows).swapaxes(-1, -2)


def _run(blocks: Sequence[_Work]) -> None:
    for w in blocks:
        np.copyto(w.state, w.scan.start)
        _step(w, w.chunks.run() if w.chunks is not None else 0)


def _step(w: _Work, first: int) -> None:
    """Compute the tokens from `first` on, one after the other."""
    tokens = zip(w.scan.decay, w.left, w.right, w.r, w.y, strict=True)
    for t, (decay, left, right, r, y) in islice(enumerate(tokens), first, None):
        if w.a is not None:
            np.matmul(w.rows, w.a[t], w.sums[t])
        if w.scan.reads_first:
            np.matmul(w.rows, r, y)
        _decay(w, decay)
        np.matmul(left, right, w.added)
        np.add(w.rows, w.added, w.rows)
        if not w.scan.reads_first:
            np.matmul(w.rows, r, y)
        back = len(w.y) - 1 - t
        if 0 < back < len(w.scan.slots):
            np.copyto(w.scan.slots[back], w.state)


def _decay(w: _Work, decay: Array) -> None:
    if w.scan.rate is not None:
        np.multiply(decay, w.scan.rate, w.factor)
        decay = np.exp(w.factor, w.factor)
    np.multiply(w.state, decay, w.state)
