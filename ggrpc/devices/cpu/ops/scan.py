"""The recurrence that state-space models and linear attention have in common.

For each token t, in turn:

    state = state * decay[t] + v[t] k[t]^T + (state a[t]) b[t]^T
    y[t] = state r[t]

where `state` in the term with `a`, which not all have, is that before the token. A step
treats all heads, channels and sequences; only tokens wait for each other. So the work
is cut into blocks of rows of the state, each of which goes through all the tokens while
it stays in a processor's cache. Where heads share nothing, `chunks` takes many tokens
at once, and the steps take the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.ops import chunks
from ggrpc.formats.codecs import Array, pieces

# Elements of the state in a block: fewer cost more calls, more leave the cache.
BLOCK = 1 << 16


class Scan(NamedTuple):
    """One recurrence over T tokens of n sequences.

    Its state is G groups of heads that share k and r, R heads a group, D rows a head, S
    columns a row. What a token adds is one product of `update_rows` by
    `update_columns`; BLAS is faster at two pairs of vectors than numpy is at one.

    Attributes:
        start: (n, G, R, D, S), the states to begin with.
        slots: (K, n, G, R, D, S); slot s gets the state s tokens before the end.
        y: (T, n, G, R, D).
        decay: (T, n, G, R, 1, 1) or (T, n, G, R, 1, S).
        rate: (G, R, 1, S), where the state decays by exp(decay * rate) instead.
        update_rows: (T, n, G, 2, R, D): v; and room for `state a`, zeros without `a`.
        update_columns: (T, n, G, 2, S): k and b; zeros for b without `a`.
        r: (T, n, G, S).
        a: (T, n, G, S), or None.
        reads_first: whether y[t] is read from the state before the token.
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
        """The part that a piece of (n, G, R) has to do with."""
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
    """A block made ready: the heads of a group, whose rows are treated alike, merged.

    Attributes:
        state: (n, G, R, D, S); rows: the same as (n, G, R * D, S).
        added: room for what a token adds, like rows.
        factor: room for the decay where there is a rate.
        left: (T, n, G, R * D, 2); right: (T, n, G, 2, S); their product is added.
        sums: (T, n, G, R * D, 1), the part of left for `state a`.
        y, r, a: vectors as matrices of one column.
        chunks: the first tokens, many at once; None where that cannot be.
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
    chunks: chunks.Chunks | None


def run_scan(s: Scan, c: Compiler) -> None:
    """Append the steps of a recurrence."""
    shape = s.slots.shape[1:]
    if not s.y.size:
        return
    count = max(1, math.ceil(math.prod(shape) / BLOCK))
    blocks = [s.block(at) for at in pieces((*shape[:3], 1), count)]
    threads = min(c.workers.threads, len(blocks))
    size = max(block.slots[0].size for block in blocks)
    extra = max(map(_size_of_chunks, blocks))
    tasks = []
    for i in range(threads):
        room = c.scratch((size,)), c.scratch((size,)), c.scratch((extra,))
        share = [_work(block, *room) for block in blocks[i::threads]]
        tasks.append(partial(_run, share))
    c.parallel(tasks)


def _chunks_of(s: Scan) -> int:
    """How many chunks of tokens can be taken: those of one state, unless it is read."""
    free = len(s.y) - (len(s.slots) if len(s.slots) > 1 else 0)
    alone = s.rate is None and s.slots.shape[3] == 1
    return max(0, free) // chunks.TOKENS if alone else 0


def _size_of_chunks(s: Scan) -> int:
    count = _chunks_of(s)
    return chunks.size(_vectors(s), count, s.slots[0, :, :, 0].shape) if count else 0


def _vectors(s: Scan) -> chunks.Vectors:
    pairs = 1 if s.a is None else 2
    return chunks.Vectors(
        decay=s.decay[:, :, :, 0, 0],
        rows=s.update_rows[:, :, :, 0, 0],
        columns=s.update_columns[:, :, :, :pairs],
        r=s.r,
        a=s.a,
        y=s.y[:, :, :, 0],
    )


def _work(s: Scan, added: Array, factor: Array, room: Array) -> _Work:
    state, count = s.slots[0], _chunks_of(s)
    *lead, heads, rows, columns = state.shape
    merged = *lead, heads * rows
    left = s.update_rows.reshape(len(s.y), *lead, 2, heads * rows)
    added = _like(state, added[: state.size])
    many = None
    if count:
        one = state[:, :, 0], added[:, :, 0]
        many = chunks.Chunks.of(_vectors(s), count, *one, room, s.reads_first)
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
    """Memory with the state's shape, and its order of rows and columns."""
    *lead, rows, columns = state.shape
    if state.strides[-1] <= state.strides[-2]:
        return memory.reshape(state.shape)
    return memory.reshape(*lead, columns, rows).swapaxes(-1, -2)


def _run(blocks: Sequence[_Work]) -> None:
    for w in blocks:
        np.copyto(w.state, w.scan.start)
        _step(w, w.chunks.run() if w.chunks is not None else 0)


def _step(w: _Work, first: int) -> None:
    """Go through the tokens from the first on, one after the other."""
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
