"""Computes the recurrence of `scan` with matrix products, for chunks of tokens.

Let W[t] be the product of a chunk's decays up to token t. Then the state at token t is
the sum of

    the state before the chunk, times W[t], and
    v[s] k[s]^T W[t] / W[s] for each token s of the chunk up to t,

so that BLAS computes the results of all tokens of a chunk at once. Only `state a` is
computed token by token, because later tokens depend on it; but that takes vectors
instead of states. Sources: the chunkwise forms of linear attention, arXiv 2312.06635,
and of the delta rule, arXiv 2406.06484.

If W is too small or too large to divide by it in float32, `scan` computes all tokens
step by step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ggrpc.formats.codecs import Array

# Tokens in a chunk. More make W smaller, and the computation of `state a` longer.
TOKENS = 16
SMALLEST, LARGEST = 1e-24, 1e24  # the range of W

# Masks [t, s] of the tokens s that token t does not read.
SAME_AND_LATER = np.tri(TOKENS, dtype=bool).T
LATER = np.tri(TOKENS, k=-1, dtype=bool).T
SAME_AND_LATER_TWICE = np.tile(SAME_AND_LATER, (1, 2))  # for k and for b


class Vectors(NamedTuple):
    """The vectors of the tokens, for heads that do not share k and r.

    T is the number of tokens, C that of a chunk; the other letters are those of `Scan`.

    Attributes:
        decay: (T, n, G, 1) or (T, n, G, S).
        rows: v, (T, n, G, D).
        columns: k, and b if there is an a, (T, n, G, P, S); P is 1 or 2.
        r: (T, n, G, S).
        a: (T, n, G, S), or None.
        y: the result, (T, n, G, D).
    """

    decay: Array
    rows: Array
    columns: Array
    r: Array
    a: Array | None
    y: Array

    def chunk(self, at: int) -> Vectors:
        """The vectors of a chunk; its axis C is moved behind the heads.

        The shapes are (n, G, C, ...), and (n, G, P, C, S) for `columns`.
        """
        tokens = slice(at * TOKENS, (at + 1) * TOKENS)
        return self._replace(
            decay=np.moveaxis(self.decay[tokens], 0, 2),
            rows=np.moveaxis(self.rows[tokens], 0, 2),
            columns=np.moveaxis(self.columns[tokens], 0, 3),
            r=np.moveaxis(self.r[tokens], 0, 2),
            a=None if self.a is None else np.moveaxis(self.a[tokens], 0, 2),
            y=np.moveaxis(self.y[tokens], 0, 2),
        )


class _Scratch(NamedTuple):
    """Scratch memory for a chunk; P is 2 if there is an `a`, otherwise 1.

    Attributes:
        columns: k and b divided by W, (n, G, P, C, S).
        rows: v and `state a`, (n, G, P, C, D).
        queries: r or a, times W, (n, G, C, S).
        scores: the product of queries and columns, (n, G, C, P * C).
        part: the product of scores and rows, (n, G, C, D).
    """

    columns: Array
    rows: Array
    queries: Array
    scores: Array
    part: Array


class Chunks(NamedTuple):
    """The chunks of a block of heads.

    Attributes:
        decays: (chunks, C, n, G, 1 or S).
        products: scratch for W, of the same shape.
        state: (n, G, D, S).
        added: scratch for the sum that a chunk adds to the state, (n, G, D, S).
        parts: the vectors of each chunk; their `decay` is W.
        scratch: scratch for one chunk.
        hidden: the mask of rows that a token does not read, (C, P * C).
        reads_first: whether a token reads the state before its own update.
    """

    decays: Array
    products: Array
    state: Array
    added: Array
    parts: list[Vectors]
    scratch: _Scratch
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
        """Prepare the first `count` chunks of a block.

        Args:
            tokens: the vectors of all tokens.
            count: the number of chunks.
            state: the state, (n, G, D, S), updated in place.
            added: scratch of the same shape.
            memory: scratch of as many elements as `scratch_size` returns.
            reads_first: whether a token reads the state before its own update.
        """
        decays = tokens.decay[: count * TOKENS]
        decays = decays.reshape(count, TOKENS, *decays.shape[1:])
        pairs = tokens.columns.shape[3]
        shapes = decays.shape, *_scratch_shapes(state.shape, pairs)
        products, *scratch = _split(memory, shapes)
        with_products = tokens._replace(decay=products.reshape(-1, *decays.shape[2:]))
        hidden = SAME_AND_LATER if reads_first else LATER
        return cls(
            decays=decays,
            products=products,
            state=state,
            added=added,
            parts=[with_products.chunk(at) for at in range(count)],
            scratch=_Scratch(*scratch),
            hidden=np.tile(hidden, (1, pairs)),
            reads_first=reads_first,
        )

    def run(self) -> int:
        """Compute all chunks, or none if W is too small or too large.

        Returns:
            The number of tokens that were computed.
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
        s, state = self.scratch, self.state
        np.divide(part.columns, part.decay[:, :, None], s.columns)
        np.copyto(s.rows[:, :, 0], part.rows)
        columns, rows = _merge_pairs(s.columns), _merge_pairs(s.rows)
        if part.a is not None:
            self._solve(part.a, part.decay, columns)
        if self.reads_first:
            _multiply_by_previous(part.r, part.decay, s.queries)
        else:
            np.multiply(part.r, part.decay, s.queries)
        np.matmul(s.queries, columns.swapaxes(-1, -2), s.scores)
        np.copyto(s.scores, 0, where=self.hidden)
        np.matmul(s.queries, state.swapaxes(-1, -2), part.y)
        np.matmul(s.scores, rows, s.part)
        np.add(part.y, s.part, part.y)
        np.matmul(rows.swapaxes(-1, -2), columns, self.added)
        np.add(state, self.added, state)
        np.multiply(state, part.decay[:, :, -1:], state)

    def _solve(self, a: Array, products: Array, columns: Array) -> None:
        """Compute `state a` of each token, which depends on the tokens before it."""
        s = self.scratch
        v, sums = s.rows[:, :, 0], s.rows[:, :, 1]
        _multiply_by_previous(a, products, s.queries)
        np.matmul(s.queries, columns.swapaxes(-1, -2), s.scores)
        np.copyto(s.scores, 0, where=SAME_AND_LATER_TWICE)
        np.matmul(s.queries, self.state.swapaxes(-1, -2), sums)
        np.matmul(s.scores[..., :TOKENS], v, s.part)
        np.add(sums, s.part, sums)
        for t in range(1, TOKENS):
            own, part = sums[:, :, t : t + 1], s.part[:, :, :1]
            scores = s.scores[:, :, t : t + 1, TOKENS : TOKENS + t]
            np.matmul(scores, sums[:, :, :t], part)
            np.add(own, part, own)


def scratch_size(tokens: Vectors, count: int, shape: Sequence[int]) -> int:
    """The number of scratch elements for `count` chunks with a state of this shape."""
    *heads, _, _ = shape
    decays: int = count * TOKENS * math.prod(heads) * tokens.decay.shape[-1]
    return decays + sum(map(math.prod, _scratch_shapes(shape, tokens.columns.shape[3])))


def _scratch_shapes(state: Sequence[int], pairs: int) -> list[tuple[int, ...]]:
    """The shapes of the arrays of `_Scratch`."""
    n, groups, d, s = state
    return [
        (n, groups, pairs, TOKENS, s),
        (n, groups, pairs, TOKENS, d),
        (n, groups, TOKENS, s),
        (n, groups, TOKENS, pairs * TOKENS),
        (n, groups, TOKENS, d),
    ]


def _split(memory: Array, shapes: Sequence[Sequence[int]]) -> list[Array]:
    """Consecutive arrays of these shapes."""
    arrays, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        arrays.append(memory[start:stop].reshape(shape))
        start = stop
    return arrays


def _merge_pairs(x: Array) -> Array:
    """Reshape (n, G, P, C, S) to (n, G, P * C, S)."""
    n, groups, pairs, tokens, s = x.shape
    return x.reshape(n, groups, pairs * tokens, s)


def _multiply_by_previous(x: Array, products: Array, out: Array) -> None:
    """Multiply by W of the previous token, which is 1 for the first of a chunk."""
    np.copyto(out[:, :, 0], x[:, :, 0])
    np.multiply(x[:, :, 1:], products[:, :, :-1], out[:, :, 1:])
