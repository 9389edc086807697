"""Computes attention in blocks that fit a processor's cache.

A block has some heads that share keys, some of their queries, and all keys. It is
computed for some keys at a time (online softmax): when a larger score is found, the
earlier sums are scaled down. Source: "Self-attention Does Not Need O(n^2) Memory",
arXiv 2112.05682.
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

# Elements of keys, values and scores to process at a time: 2 MB, about an L2 cache.
BLOCK = 1 << 19
# Elements up to which all heads are one block, to keep the overhead of Python small.
SMALL = 1 << 20
# Rows of scores in a block; enough for BLAS to be efficient.
ROWS = 512
# Rows per head below which it is faster to compute k q^T and transpose it than q k^T.
FEW_ROWS = 32
# The number of keys to process at a time is a multiple of this.
KEYS = 64

# The lowest score that is not masked; -inf minus this is still -inf.
LOWEST = scalar(float(np.finfo(np.float32).min))


class Plan(NamedTuple):
    """The division of a node into blocks.

    Attributes:
        kv_heads: the number of heads of keys and values.
        group: the number of query heads that share each of them.
        heads: the number of kv heads in a block.
        queries: the number of queries in a block.
        keys: the number of keys to process at a time.
    """

    kv_heads: int
    group: int
    heads: int
    queries: int
    keys: int

    @classmethod
    def of(cls, node: Node) -> Plan:
        """A single block for a small node, otherwise blocks of one kv head."""
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
    """Views of the data that a block reads and writes.

    Attributes:
        q: the queries, (kv heads, group, queries, d).
        k: the keys, (kv heads, keys, d), in the type of K.
        v: the values, (kv heads, keys, dv), in the type of V.
        mask: (heads of the mask, queries, keys) in the mask's type, or None.
        mask_heads: the index of the mask's head for each (kv head, group); None if the
            mask has one head.
        slopes: the factors of the mask, (kv heads, group, 1, 1), or None.
        sinks: the scores of the sinks, (kv heads, group, 1, 1), or None.
        y: the result, (kv heads, group, queries, dv).
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
    """The state of one thread that computes blocks: parameters and scratch memory.

    Args:
        node: a FLASH_ATTN_EXT node.
        plan: the division into blocks.
        scratch: allocates a float32 array of a shape.
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
        self._transposes = rows < FEW_ROWS * plan.heads
        self._transposed = scratch((scores if self._transposes else 0,))
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
                continue  # all these keys are masked for all queries
            scores = self._scores_of(q, self._k.values(block.k[:, keys]), bias)
            sums.add(scores, self._v.values(block.v[:, keys]))
        sums.end(block)

    def _scores_of(self, q: Array, k: Array, bias: Array | None) -> Array:
        """The scores, (kv heads, group * queries, keys)."""
        heads, group, queries, d = q.shape
        rows, keys = group * queries, k.shape[1]
        scores = _fit(self._scores, (heads, rows, keys))
        if self._transposes:
            transposed = _fit(self._transposed, (heads, keys, rows))
            np.matmul(k, q.reshape(heads, rows, d).swapaxes(1, 2), transposed)
            np.copyto(scores, transposed.swapaxes(1, 2))
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
        """The mask times the slopes; broadcasts to (kv heads, group, queries, keys)."""
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
    """The sums over the keys of a block.

    Attributes:
        top: the largest score so far, (kv heads, rows, 1).
        total: the sum of exp(score - top), (kv heads, rows, 1).
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
        """Start with the sinks, or with a score too low to have an effect."""
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
        """Add the scores and values of some keys; `scores` is overwritten."""
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
        """Write the weighted means of the values to the result."""
        shape = block.y.shape
        np.divide(self.out.reshape(shape), self.total.reshape(*shape[:3], 1), block.y)


class _Operand:
    """A source that is unpacked to float32 part by part.

    Args:
        tensor: the source.
        scratch: memory for the values of a part.
    """

    def __init__(self, tensor: Tensor, scratch: Array) -> None:
        self._is_f32 = tensor.type is GGMLType.F32
        self._unpack = CODECS[tensor.type].unpack
        self._row = tensor.ne[0] if tensor.type.is_quantized else None
        self._scratch = scratch

    def values(self, part: Array) -> Array:
        """The values of a part of the tensor's view; valid until the next call."""
        if self._is_f32:
            return part
        values = _fit(self._scratch, (*part.shape[:-1], self._row or part.shape[-1]))
        self._unpack(part, values)
        return values


def _fit(memory: Array, shape: tuple[int, ...]) -> Array:
    """A contiguous array of a shape at the start of some memory."""
    return memory[: math.prod(shape)].reshape(shape)
