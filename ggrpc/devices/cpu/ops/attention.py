"""SOFT_MAX and FLASH_ATTN_EXT in numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.attention_blocks import Attention, Block, Plan
from ggrpc.devices.cpu.ops.broadcast import repeated, scalar
from ggrpc.formats.codecs import CODECS, Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.attention import (
    MASK,
    SINKS,
    SOFT_MAX_MASK,
    SOFT_MAX_SINKS,
    A,
    K,
    Q,
    V,
    alibi_slopes,
)
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType


@kernel(Op.SOFT_MAX)
def soft_max(node: Node, c: Compiler) -> None:
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    mask, sinks = node.src[SOFT_MAX_MASK], node.src[SOFT_MAX_SINKS]
    if node.params.scale != 1:
        c.elementwise(np.multiply, (x, scalar(node.params.scale)), y)
        x = y
    if mask is not None:
        bias, x, out = repeated(_bias(mask, node, c), x, y)
        c.elementwise(np.add, (x, bias), out)
        x = y
    ones = _ones(y.shape[-1], c)
    if sinks is None:
        c.rows(partial(_soft_max, ones), (x, y), temps=(1,))
    else:
        sink = c.view(sinks)[0, 0, 0, :, None, None]
        sink = np.broadcast_to(sink, (*y.shape[:-1], 1))
        c.rows(partial(_soft_max_with_sink, ones), (x, sink, y), temps=(1, 1))


def _ones(count: int, c: Compiler) -> Array:
    """A column of ones, shared by all nodes."""

    def make(c: Compiler) -> Array:
        ones = c.persistent((count, 1))
        ones.fill(1)
        return ones

    return c.shared(("ones", count), [], make)


def _bias(mask: Tensor, node: Node, c: Compiler) -> Array:
    """The mask times the slopes, as float32; nodes share the unpacked mask."""

    def make(c: Compiler) -> Array:
        view = c.view(mask)
        if mask.type == GGMLType.F32:
            return view
        values = c.persistent(view.shape)
        c.convert(CODECS[mask.type].unpack, view, values)
        return values

    ne = node.tensor.ne
    bias: Array = c.shared(("mask", mask.id), [mask], make)[:, :, : ne[1]]
    if node.params.max_bias <= 0:
        return bias
    sloped = c.scratch(ne[::-1])
    slopes = np.broadcast_to(alibi_slopes(ne[2], node.params.max_bias), sloped.shape)
    bias, slopes, out = repeated(bias, slopes, sloped)
    c.elementwise(np.multiply, (bias, slopes), out)
    return sloped


def _soft_max(ones: Array, x: Array, y: Array, top: Array) -> None:
    """Softmax of each row; BLAS sums in half the time of numpy's own sum."""
    np.maximum.reduce(x, axis=-1, out=top, keepdims=True, initial=-np.inf)
    np.subtract(x, top, y)
    np.exp(y, y)
    np.matmul(y, ones, top)
    np.divide(y, top, y)


def _soft_max_with_sink(
    ones: Array, x: Array, sink: Array, y: Array, top: Array, s: Array
) -> None:
    np.maximum.reduce(x, axis=-1, out=top, keepdims=True, initial=-np.inf)
    np.maximum(top, sink, out=top)
    np.subtract(x, top, y)
    np.exp(y, y)
    np.subtract(sink, top, s)
    np.exp(s, s)
    np.matmul(y, ones, top)
    np.add(top, s, top)
    np.divide(y, top, y)


@kernel(Op.FLASH_ATTN_EXT)
def flash_attn_ext(node: Node, c: Compiler) -> None:
    plan = Plan.of(node)
    q = node.source(Q).ne
    c.check_parts(q[3] * plan.kv_heads // plan.heads * -(-q[1] // plan.queries))
    blocks = list(_blocks(node, plan, c))
    threads = min(c.workers.threads, len(blocks))
    c.parallel(
        partial(Attention(node, plan, c.scratch).run, blocks[i::threads])
        for i in range(threads)
    )


def _blocks(node: Node, plan: Plan, c: Compiler) -> Iterator[Block]:
    """Divide a node into blocks."""
    q, y = c.f32(node.source(Q)), c.view(node.tensor).swapaxes(1, 2)
    grouped = (len(q), plan.kv_heads, plan.group, q.shape[2], -1)
    q, y = q.reshape(grouped), y.reshape(grouped)
    kv = c.view(node.source(K)), c.view(node.source(V))
    mask, mask_heads, slopes, sinks = _head_data(node, plan, c)
    for i3, head, query in product(
        range(len(q)),
        range(0, plan.kv_heads, plan.heads),
        range(0, q.shape[3], plan.queries),
    ):
        heads = slice(head, head + plan.heads)
        queries = slice(query, query + plan.queries)
        k, v = (_heads_of(x, i3 * len(x) // len(q), head, plan) for x in kv)
        yield Block(
            q=q[i3, heads, :, queries],
            k=k,
            v=v,
            mask=None if mask is None else mask[i3 % len(mask), :, queries],
            mask_heads=None if mask_heads is None else mask_heads[heads],
            slopes=None if slopes is None else slopes[heads],
            sinks=None if sinks is None else sinks[heads],
            y=y[i3, heads, :, queries],
        )


def _heads_of(kv: Array, i3: int, head: int, plan: Plan) -> Array:
    """The part of K or V that belongs to a block's heads."""
    first = head * kv.shape[1] // plan.kv_heads
    return kv[i3, first : first + plan.heads]


def _head_data(
    node: Node, plan: Plan, c: Compiler
) -> tuple[Array | None, Array | None, Array | None, Array | None]:
    """The mask, mask heads, slopes and sinks of all heads; see `Block`."""
    shape = plan.kv_heads, plan.group
    mask = mask_heads = slopes = sinks = None
    if (tensor := node.src[MASK]) is not None:
        mask = c.view(tensor)
        if mask.shape[1] > 1:
            mask_heads = np.arange(math.prod(shape)).reshape(shape) % mask.shape[1]
        if node.params.max_bias > 0:
            slopes = alibi_slopes(math.prod(shape), node.params.max_bias)
            slopes = slopes.reshape(*shape, 1, 1)
    if (tensor := node.src[SINKS]) is not None:
        sinks = c.view(tensor)[0, 0, 0].reshape(*shape, 1, 1)
    return mask, mask_heads, slopes, sinks
