"""How attention is computed: block by block, in memory that fits a processor's cache.

A block is some heads that share keys, some of their queries, and all keys, which are
taken some at a time: what was summed up before shrinks when a larger score turns up.
Source: "Self-attention Does Not Need O(n^2) Memory", arXiv 2112.05682.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.ops.broadcast import scalar
from ggrpc.formats.codecs import CODECS, Array
from ggrpc.ops import Node
from ggrpc.ops.attention import MASK, FlashAttnParams, K, Q, V
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

# Keys', values' and scores' numbers that are taken at a time: 2 MB, about a L2 cache.
BLOCK = 1 << 19
# Numbers up to which all heads are one block: several would mostly be Python.
SMALL = 1 << 20
# Rows of scores in a block: enough to make BLAS worth its while.
ROWS = 512
# Rows of which BLAS computes the keys' products with q, turned, sooner than q's with k.
FEW = 32
# Keys are taken by multiples of this, but for the last.
KEYS = 64

# Below all scores but masked ones: -inf less this is still -inf.
LOWEST = scalar(float(np.finfo(np.float32).min))


class Plan(NamedTuple):
    """How a node's work is cut into blocks.

    Attributes:
        kv_heads: heads that have keys and values of their own.
        group: heads that share them.
        heads: kv_heads of a block.
        queries: of a block.
        keys: that a block takes at a time.
    """

    kv_heads: int
    group: int
    heads: int
    queries: int
    keys: int

    @classmethod
    def of(cls, node: Node) -> Plan:
        """One block where all of it is small, else blocks of one head of keys."""
        q, k, v = node.source(Q).ne, node.source(K).ne, node.source(V).ne
        kv_heads = math.lcm(k[2], v[2])
        group = q[2] // kv_heads
        width = k[0] + v[0]
        if k[2] == v[2] and kv_heads * k[1] * (width + group * q[1]) <= SMALL:
            return cls(kv_heads, group, kv_heads, q[1], max(1, k[1]))
        queries = min(q[1], max(1, ROWS // group))
        keys = BLOCK // (width + group * queries) // KEYS * KEYS
        return cls(kv_heads, group, 1, queries, max(KEYS, min(k[1], keys)))


class Block(NamedTuple):
    """Views of what a block reads and writes.

    Attributes:
        q: (kv heads, group, queries, d).
        k: (kv heads, keys, d) in the type of K.
        v: (kv heads, keys, dv) in the type of V.
        mask: (heads of the mask, queries, keys) in its own type, or None.
        mask_heads: which of those each (kv head, group) has, or None for the only one.
        slopes: what the mask is multiplied by, (kv heads, group, 1, 1), or None.
        sinks: scores without values, (kv heads, group, 1, 1), or None.
        y: (kv heads, group, queries, dv).
    """

    q: Array
    k: Array
    v: Array
    mask: Array | None
    mask_heads: Array | None
    slopes: Array | None
    sinks: Array | None
    y: Array


class Attention:
    """What one thread needs to compute blocks: a node's settings, and room to work in.

    Args:
        node: a FLASH_ATTN_EXT.
        plan: how it is cut.
        scratch: gives memory for so many float32.
    """

    def __init__(
        self, node: Node, plan: Plan, scratch: Callable[[tuple[int]], Array]
    ) -> None:
        p: FlashAttnParams = node.params
        self._scale = scalar(p.scale / (p.logit_softcap or 1))
        self._cap = scalar(p.logit_softcap) if p.logit_softcap else None
        self._keys = plan.keys
        k, v, mask = node.source(K), node.source(V), node.src[MASK]
        rows = plan.heads * plan.group * plan.queries
        scores = rows * plan.keys
        self._k = _Operand(k, scratch((plan.heads * plan.keys * k.ne[0],)))
        self._v = _Operand(v, scratch((plan.heads * plan.keys * v.ne[0],)))
        self._mask = _Operand(mask, scratch((scores,))) if mask else None
        self._q = scratch((rows * k.ne[0],))
        self._scores = scratch((scores,))
        self._few = rows < FEW * plan.heads
        self._turned = scratch((scores if self._few else 0,))
        self._sloped = scratch((scores if p.max_bias > 0 else 0,))
        self._sums = _Sums(rows, v.ne[0], plan.keys, scratch)

    def run(self, blocks: Sequence[Block]) -> None:
        """Compute blocks one after the other."""
        for block in blocks:
            self._attend(block)

    def _attend(self, block: Block) -> None:
        q = _fit(self._q, block.q.shape)
        np.multiply(block.q, self._scale, q)
        sums, n_kv = self._sums, block.k.shape[1]
        sums.begin(block)
        for start in range(0, n_kv, self._keys):
            keys = slice(start, start + self._keys)
            bias = self._bias(block, keys)
            if bias is not None and n_kv > self._keys and bias.max() == -np.inf:
                continue  # none of the queries sees any of these keys
            scores = self._scores_of(q, self._k.values(block.k[:, keys]), bias)
            sums.add(scores, self._v.values(block.v[:, keys]))
        sums.end(block)

    def _scores_of(self, q: Array, k: Array, bias: Array | None) -> Array:
        """(kv heads, group * queries, keys)."""
        heads, group, queries, d = q.shape
        rows, keys = group * queries, k.shape[1]
        scores = _fit(self._scores, (heads, rows, keys))
        if self._few:
            turned = _fit(self._turned, (heads, keys, rows))
            np.matmul(k, q.reshape(heads, rows, d).swapaxes(1, 2), turned)
            np.copyto(scores, turned.swapaxes(1, 2))
        else:
            np.matmul(q.reshape(heads, rows, d), k.swapaxes(1, 2), scores)
        if self._cap is not None:
            np.tanh(scores, scores)
            np.multiply(scores, self._cap, scores)
        if bias is not None:
            by_head = scores.reshape(heads, group, queries, -1)
            np.add(by_head, bias, by_head)
        return scores

    def _bias(self, block: Block, keys: slice) -> Array | None:
        """What is added to the scores: of a shape that broadcasts to that of q's."""
        if block.mask is None or self._mask is None:
            return None
        mask = block.mask[:, :, keys]
        if block.mask_heads is not None:
            mask = mask[block.mask_heads]
        bias = self._mask.values(mask)
        if block.slopes is None:
            return bias
        sloped = _fit(self._sloped, (*block.q.shape[:3], bias.shape[-1]))
        np.multiply(bias, block.slopes, sloped)
        return sloped


class _Sums:
    """What a block sums up over its keys.

    Attributes:
        top: the largest score so far, (kv heads, rows, 1).
        total: the sum of exp(score - top).
        out: the sum of exp(score - top) * value, (kv heads, rows, dv).
    """

    def __init__(
        self, rows: int, dv: int, keys: int, scratch: Callable[[tuple[int]], Array]
    ) -> None:
        self._dv = dv
        self._ones = np.ones((keys, 1), np.float32)
        self._columns = [scratch((rows,)) for _ in range(4)]
        self._values = [scratch((rows * dv,)) for _ in range(2)]

    def begin(self, block: Block) -> None:
        """With the sinks, or with a score that any other makes vanish."""
        heads, group, queries = shape = block.q.shape[:3]
        rows = (heads, group * queries)
        self.top, self._next, self.total, self._part = (
            _fit(column, (*rows, 1)) for column in self._columns
        )
        self.out, self._more = (_fit(x, (*rows, self._dv)) for x in self._values)
        sinks = LOWEST if block.sinks is None else block.sinks
        np.maximum(sinks, LOWEST, out=self.top.reshape(*shape, 1))
        self.total.fill(1)
        self.out.fill(0)

    def add(self, scores: Array, v: Array) -> None:
        """Add keys, with their values; `scores` is overwritten."""
        top, shrink = self._next, self.top
        np.maximum.reduce(scores, axis=-1, out=top, keepdims=True, initial=LOWEST)
        np.maximum(top, shrink, out=top)
        np.subtract(scores, top, scores)
        np.exp(scores, scores)
        np.subtract(shrink, top, shrink)
        np.exp(shrink, shrink)
        np.multiply(self.total, shrink, self.total)
        np.matmul(scores, self._ones[: v.shape[1]], self._part)
        np.add(self.total, self._part, self.total)
        np.multiply(self.out, shrink, self.out)
        np.matmul(scores, v, self._more)
        np.add(self.out, self._more, self.out)
        self.top, self._next = top, shrink

    def end(self, block: Block) -> None:
        """Write the weighted means."""
        shape = block.y.shape
        np.divide(self.out.reshape(shape), self.total.reshape(*shape[:3], 1), block.y)


class _Operand:
    """A source that is read part by part as float32.

    Args:
        tensor: the source.
        room: for the values of a part.
    """

    def __init__(self, tensor: Tensor, room: Array) -> None:
        self._plain = tensor.type is GGMLType.F32
        self._unpack = CODECS[tensor.type].unpack
        self._row = tensor.ne[0] if tensor.type.is_quantized else None
        self._room = room

    def values(self, part: Array) -> Array:
        """The values of a part of the tensor's view."""
        if self._plain:
            return part
        values = _fit(self._room, (*part.shape[:-1], self._row or part.shape[-1]))
        self._unpack(part, values)
        return values


def _fit(room: Array, shape: tuple[int, ...]) -> Array:
    """The first part of some memory, as an array without gaps."""
    return room[: math.prod(shape)].reshape(shape)
