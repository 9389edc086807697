"""The recurrence of `scan`, a chunk of tokens at a time: products instead of steps.

With W[t] the product of a chunk's decays up to token t, all that a token reads is

    the state before the chunk, times W[t], and
    v[s] k[s]^T W[t] / W[s] of the tokens s before it,

so that BLAS gives what all tokens of a chunk read at once. Only `state a`, on which
depends what later tokens add, is solved for token by token: that is vectors, not
states. Source: the chunkwise form of linear attention, arXiv 2312.06635, and that of
the delta rule, arXiv 2406.06484.

Where W leaves the range in which float32 can divide by it, all is left to the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ggrpc.formats.codecs import Array

TOKENS = 16  # in a chunk: more make W smaller, and what is solved by token longer
SMALLEST, LARGEST = 1e-24, 1e24  # of W

# By [t, s]: which tokens s of its chunk a token t does not read.
ITS_OWN_AND_LATER = np.tri(TOKENS, dtype=bool).T
LATER = np.tri(TOKENS, k=-1, dtype=bool).T
ITS_OWN_AND_LATER_OF_BOTH = np.tile(ITS_OWN_AND_LATER, (1, 2))  # of k and b


class Vectors(NamedTuple):
    """What the tokens bring, for heads that share nothing; C tokens a chunk.

    Attributes:
        decay: (T, n, G, 1) or (T, n, G, S).
        rows: (T, n, G, D), v.
        columns: (T, n, G, P, S), k, and b where there is a.
        r: (T, n, G, S).
        a: (T, n, G, S), or None.
        y: (T, n, G, D).
    """

    decay: Array
    rows: Array
    columns: Array
    r: Array
    a: Array | None
    y: Array

    def chunk(self, at: int) -> Vectors:
        """Some tokens, behind the heads: (n, G, C, ...), and (n, G, P, C, S)."""
        tokens = slice(at * TOKENS, (at + 1) * TOKENS)
        return self._replace(
            decay=_behind_heads(self.decay[tokens]),
            rows=_behind_heads(self.rows[tokens]),
            columns=np.moveaxis(self.columns[tokens], 0, 3),
            r=_behind_heads(self.r[tokens]),
            a=None if self.a is None else _behind_heads(self.a[tokens]),
            y=_behind_heads(self.y[tokens]),
        )


class _Room(NamedTuple):
    """Memory for a chunk; P is 2 where there is `a`, otherwise 1.

    Attributes:
        columns: (n, G, P, C, S), k and b over W.
        rows: (n, G, P, C, D), v and `state a`.
        reading: (n, G, C, S), what the state is multiplied with.
        seen: (n, G, C, P * C), how much of each row a token reads.
        read: (n, G, C, D).
    """

    columns: Array
    rows: Array
    reading: Array
    seen: Array
    read: Array


class Chunks(NamedTuple):
    """The chunks of a block of heads.

    Attributes:
        decays: (chunks, C, n, G, 1 or S).
        products: room for W, of that shape.
        state: (n, G, D, S).
        added: room for what a chunk adds to the state.
        parts: the chunks, whose decay is W.
        room: for one of them.
        hidden: what a token does not read, (C, P * C).
        reads_first: whether a token reads the state before itself.
    """

    decays: Array
    products: Array
    state: Array
    added: Array
    parts: list[Vectors]
    room: _Room
    hidden: Array
    reads_first: bool

    @classmethod
    def of(
        cls,
        tokens: Vectors,
        count: int,
        state: Array,
        added: Array,
        memory: Array,
        reads_first: bool,
    ) -> Chunks:
        """Prepare the first `count` chunks of a block; see `size` for the memory."""
        decays = tokens.decay[: count * TOKENS]
        decays = decays.reshape(count, TOKENS, *decays.shape[1:])
        pairs = tokens.columns.shape[3]
        products, *room = _carve(memory, (decays.shape, *_shapes(state.shape, pairs)))
        weighed = tokens._replace(decay=products.reshape(-1, *decays.shape[2:]))
        hidden = LATER if not reads_first else ITS_OWN_AND_LATER
        return cls(
            decays=decays,
            products=products,
            state=state,
            added=added,
            parts=[weighed.chunk(at) for at in range(count)],
            room=_Room(*room),
            hidden=np.tile(hidden, (1, pairs)),
            reads_first=reads_first,
        )

    def run(self) -> int:
        """Go through all chunks, unless W gets too small or large: then do nothing.

        Returns:
            How many tokens are done.
        """
        self._multiply_decays()
        size = np.abs(self.products)
        if not (size.min() > SMALLEST and size.max() < LARGEST):
            return 0
        for part in self.parts:
            self._run(part)
        return TOKENS * len(self.parts)

    def _multiply_decays(self) -> None:
        np.copyto(self.products[:, 0], self.decays[:, 0])
        for t in range(1, TOKENS):
            before, own = self.products[:, t - 1], self.decays[:, t]
            np.multiply(before, own, self.products[:, t])

    def _run(self, part: Vectors) -> None:
        room, state = self.room, self.state
        np.divide(part.columns, part.decay[:, :, None], room.columns)
        np.copyto(room.rows[:, :, 0], part.rows)
        columns, rows = (_joined(x) for x in (room.columns, room.rows))
        if part.a is not None:
            self._solve(part.a, part.decay, columns)
        if self.reads_first:
            _multiply_before(part.r, part.decay, room.reading)
        else:
            np.multiply(part.r, part.decay, room.reading)
        np.matmul(room.reading, columns.swapaxes(-1, -2), room.seen)
        np.copyto(room.seen, 0, where=self.hidden)
        np.matmul(room.reading, state.swapaxes(-1, -2), part.y)
        np.matmul(room.seen, rows, room.read)
        np.add(part.y, room.read, part.y)
        np.matmul(rows.swapaxes(-1, -2), columns, self.added)
        np.add(state, self.added, state)
        np.multiply(state, part.decay[:, :, -1:], state)

    def _solve(self, a: Array, products: Array, columns: Array) -> None:
        """Fill in `state a`, which of each token depends on those before it."""
        room = self.room
        v, sums = room.rows[:, :, 0], room.rows[:, :, 1]
        _multiply_before(a, products, room.reading)
        np.matmul(room.reading, columns.swapaxes(-1, -2), room.seen)
        np.copyto(room.seen, 0, where=ITS_OWN_AND_LATER_OF_BOTH)
        np.matmul(room.reading, self.state.swapaxes(-1, -2), sums)
        np.matmul(room.seen[..., :TOKENS], v, room.read)
        np.add(sums, room.read, sums)
        for t in range(1, TOKENS):
            own, by_token = sums[:, :, t : t + 1], room.read[:, :, :1]
            seen = room.seen[:, :, t : t + 1, TOKENS : TOKENS + t]
            np.matmul(seen, sums[:, :, :t], by_token)
            np.add(own, by_token, own)


def size(tokens: Vectors, count: int, shape: Sequence[int]) -> int:
    """Elements of memory that `count` chunks with a state of this shape want."""
    *heads, _, _ = shape
    decays: int = count * TOKENS * math.prod(heads) * tokens.decay.shape[-1]
    return decays + sum(map(math.prod, _shapes(shape, tokens.columns.shape[3])))


def _shapes(state: Sequence[int], pairs: int) -> list[tuple[int, ...]]:
    """Of the arrays of a `_Room`."""
    n, groups, d, s = state
    return [
        (n, groups, pairs, TOKENS, s),
        (n, groups, pairs, TOKENS, d),
        (n, groups, TOKENS, s),
        (n, groups, TOKENS, pairs * TOKENS),
        (n, groups, TOKENS, d),
    ]


def _carve(memory: Array, shapes: Sequence[Sequence[int]]) -> list[Array]:
    """Arrays one behind the other."""
    arrays, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        arrays.append(memory[start:stop].reshape(shape))
        start = stop
    return arrays


def _behind_heads(x: Array) -> Array:
    return np.moveaxis(x, 0, 2)


def _joined(x: Array) -> Array:
    """(n, G, P, C, S) as (n, G, P * C, S)."""
    n, groups, pairs, tokens, s = x.shape
    return x.reshape(n, groups, pairs * tokens, s)


def _multiply_before(x: Array, products: Array, out: Array) -> None:
    """Times W of the token before, which is 1 for a chunk's first."""
    np.copyto(out[:, :, 0], x[:, :, 0])
    np.multiply(x[:, :, 1:], products[:, :, :-1], out[:, :, 1:])
