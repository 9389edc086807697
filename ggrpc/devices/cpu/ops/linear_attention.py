"""RWKV_WKV6, RWKV_WKV7, GATED_LINEAR_ATTN, GATED_DELTA_NET in numpy.

All of them are the recurrence of `scan`, with one head per group. If ggml stores the
state with keys as rows, a transposed view is used.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import scalar
from ggrpc.devices.cpu.ops.scan import Scan, run_scan
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.linear_attention import DeltaNet, Gla, Wkv6, Wkv7
from ggrpc.tensor import Tensor


class _Shape(NamedTuple):
    """The number of tokens per sequence, sequences, heads, and elements of a head."""

    tokens: int
    seqs: int
    heads: int
    size: int

    @classmethod
    def of(cls, k: Tensor, state: Tensor) -> _Shape:
        size, heads, tokens, _ = k.ne
        seqs = state.ne[1]
        return cls(tokens // max(1, seqs), seqs, heads, size)


@kernel(Op.RWKV_WKV6)
def rwkv_wkv6(node: Node, c: Compiler) -> None:
    """Compute y = r (state + u k v^T); state = state * w + k v^T.

    The sources are called tf for u, and td for w.
    """
    shape = _Shape.of(node.source(Wkv6.K), node.source(Wkv6.STATE))
    k, v, r, w = (
        _tokens(node, at, shape, c) for at in (Wkv6.K, Wkv6.V, Wkv6.R, Wkv6.TD)
    )
    y, slots = _result(node, shape, 1, c)
    rows, columns = _updates(shape, v, k, c)
    scan = Scan(
        start=_states(node, Wkv6.STATE, shape, c).swapaxes(-1, -2),
        slots=slots.swapaxes(-1, -2),
        y=y,
        decay=w[:, :, :, None, None],
        update_rows=rows,
        update_columns=columns,
        r=r,
        reads_first=True,
    )
    run_scan(_without_a(scan, c), c)
    u = c.f32(node.source(Wkv6.TF)).reshape(shape.heads, shape.size)
    bonus, total = c.scratch(shape), c.scratch((*shape[:3], 1))
    c.elementwise(np.multiply, (r, k), bonus)
    c.elementwise(np.multiply, (bonus, u), bonus)
    c.step(_sum, bonus, total)
    c.elementwise(np.multiply, (v, total), bonus)
    c.elementwise(np.add, (y[..., 0, :], bonus), y[..., 0, :])


def _sum(x: Array, y: Array) -> None:
    np.add.reduce(x, axis=-1, out=y, keepdims=True)


@kernel(Op.RWKV_WKV7)
def rwkv_wkv7(node: Node, c: Compiler) -> None:
    """Compute state = state * w + v k^T + (state a) b^T; y = state r."""
    shape = _Shape.of(node.source(Wkv7.K), node.source(Wkv7.STATE))
    k, v, r, w, a, b = (
        _tokens(node, at, shape, c)
        for at in (Wkv7.K, Wkv7.V, Wkv7.R, Wkv7.W, Wkv7.A, Wkv7.B)
    )
    y, slots = _result(node, shape, 1, c)
    rows, columns = _updates(shape, v, k, c)
    c.elementwise(np.positive, (b,), columns[..., 1, :])
    scan = Scan(
        start=_states(node, Wkv7.STATE, shape, c),
        slots=slots,
        y=y,
        decay=w[:, :, :, None, None],
        update_rows=rows,
        update_columns=columns,
        r=r,
        a=a,
    )
    run_scan(scan, c)


@kernel(Op.GATED_LINEAR_ATTN)
def gated_linear_attn(node: Node, c: Compiler) -> None:
    """Compute state = state * g + k v^T; y = scale q state."""
    shape = _Shape.of(node.source(Gla.K), node.source(Gla.STATE))
    k, v, q, g = (_tokens(node, at, shape, c) for at in (Gla.K, Gla.V, Gla.Q, Gla.G))
    y, slots = _result(node, shape, 1, c)
    rows, columns = _updates(shape, v, k, c)
    r = c.scratch(shape)
    c.elementwise(np.multiply, (q, scalar(node.params.scale)), r)
    scan = Scan(
        start=_states(node, Gla.STATE, shape, c).swapaxes(-1, -2),
        slots=slots.swapaxes(-1, -2),
        y=y,
        decay=g[:, :, :, None, None],
        update_rows=rows,
        update_columns=columns,
        r=r,
    )
    run_scan(_without_a(scan, c), c)


@kernel(Op.GATED_DELTA_NET)
def gated_delta_net(node: Node, c: Compiler) -> None:
    """Compute s = state * exp(g); state = s + beta (v - s k) k^T.

    The result is y = state q / sqrt(size). With w = exp(g), the new state is equal to
    state * w + v (beta k)^T + (state (w k)) (-beta k)^T.
    """
    size, heads, tokens, seqs = node.source(DeltaNet.V).ne
    shape = _Shape(tokens, seqs, heads, size)
    v, g, beta = (
        c.f32(node.source(at)).swapaxes(0, 1)
        for at in (DeltaNet.V, DeltaNet.G, DeltaNet.BETA)
    )
    y, slots = _result(node, shape, node.params.slots, c)
    w, a, r = c.scratch(g.shape), c.scratch(shape), c.scratch(shape)
    minus = c.scratch(beta.shape)
    rows, columns = _update_scratch(shape, c)
    c.elementwise(np.exp, (g,), w)
    c.elementwise(np.negative, (beta,), minus)
    c.elementwise(np.positive, (v,), rows[..., 0, 0, :])
    k = node.source(DeltaNet.K)
    _each_head(k, beta, columns[..., 0, :], c)
    _each_head(k, minus, columns[..., 1, :], c)
    _each_head(k, w, a, c)
    scale = np.broadcast_to(scalar(size**-0.5), shape)
    _each_head(node.source(DeltaNet.Q), scale, r, c)
    scan = Scan(
        start=_states(node, DeltaNet.STATE, shape, c),
        slots=slots,
        y=y,
        decay=w[:, :, :, None, None],
        update_rows=rows,
        update_columns=columns,
        r=r,
        a=a,
    )
    run_scan(scan, c)


def _each_head(source: Tensor, factor: Array, out: Array, c: Compiler) -> None:
    """Append out = source * factor for each head and sequence of v.

    Head h of v uses head h % n of the source; consecutive sequences of v share one of
    the source.
    """
    x = c.f32(source).swapaxes(0, 1)
    tokens, seqs, heads, _ = x.shape

    def split(array: Array) -> Array:
        each = array.shape[1] // max(1, seqs), array.shape[2] // max(1, heads)
        return array.reshape(tokens, seqs, *each, heads, array.shape[-1])

    c.elementwise(np.multiply, (x[:, :, None, None], split(factor)), split(out))


def _tokens(node: Node, at: int, shape: _Shape, c: Compiler) -> Array:
    """A source with the shape of `Scan`'s vectors, (tokens, seqs, heads, size)."""
    x: Array = c.f32(node.source(at))[0]
    return x.reshape(shape.seqs, shape.tokens, *shape[2:]).swapaxes(0, 1)


def _states(node: Node, at: int, shape: _Shape, c: Compiler) -> Array:
    """The initial states, (seqs, heads, 1, size, size)."""
    state = c.f32(node.source(at))
    return state.reshape(shape.seqs, shape.heads, 1, shape.size, shape.size)


def _result(node: Node, shape: _Shape, slots: int, c: Compiler) -> tuple[Array, Array]:
    """The two parts of the result: y, and the slots of states.

    Their shapes are (tokens, seqs, heads, 1, size) and (slots, seqs, heads, 1, size,
    size).
    """
    tokens, seqs, heads, size = shape
    out = c.result(node.tensor).reshape(-1)
    y, states = np.split(out, [tokens * seqs * heads * size])
    return (
        y.reshape(seqs, tokens, heads, 1, size).swapaxes(0, 1),
        states.reshape(slots, seqs, heads, 1, size, size),
    )


def _update_scratch(shape: _Shape, c: Compiler) -> tuple[Array, Array]:
    """Scratch for `update_rows` and `update_columns` of `Scan`."""
    lead = shape[:3]
    return c.scratch((*lead, 2, 1, shape.size)), c.scratch((*lead, 2, shape.size))


def _updates(shape: _Shape, v: Array, k: Array, c: Compiler) -> tuple[Array, Array]:
    """The `update_rows` and `update_columns` of `Scan`, with v and k filled in."""
    rows, columns = _update_scratch(shape, c)
    c.elementwise(np.positive, (v,), rows[..., 0, 0, :])
    c.elementwise(np.positive, (k,), columns[..., 0, :])
    return rows, columns


def _without_a(scan: Scan, c: Compiler) -> Scan:
    """Append steps that clear the term with `a`."""
    c.step(scan.update_rows[:, :, :, 1].fill, 0)
    c.step(scan.update_columns[:, :, :, 1].fill, 0)
    return scan
