"""LIGHTNING_INDEXER, DSV4_HC_COMB, DSV4_HC_PRE, DSV4_HC_POST in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.activations import sigmoid
from ggrpc.devices.cpu.ops.broadcast import scalar
from ggrpc.formats.codecs import GROUP, Array, pieces
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.deepseek import (
    BASE,
    COMB,
    HC,
    MASK,
    MIXES,
    POST,
    PRE_WEIGHTS,
    RESIDUAL,
    SCALE,
    WEIGHTS,
    K,
    Q,
    X,
)

ZERO = scalar(0)


@kernel(Op.LIGHTNING_INDEXER)
def lightning_indexer(node: Node, c: Compiler) -> None:
    """y[t, i] = sum_h weights[t, h] relu(q[t, h] k[i]) + mask[t, i].

    It is computed in blocks of tokens, so that the scores of all heads fit a cache.
    """
    q, k = c.f32(node.source(Q)), c.f32(node.source(K))[:, :, 0]
    weights, mask = c.f32(node.source(WEIGHTS))[:, 0], c.f32(node.source(MASK))[:, 0]
    y = c.result(node.tensor)[:, 0]
    streams, tokens, heads, _ = q.shape
    scores = heads * k.shape[1]
    count = min(tokens, max(1, math.ceil(tokens * scores / GROUP)))
    c.check_parts(streams * count)
    parts = pieces((tokens, 1), count)
    blocks = [
        (q[s][at], k[s].T, weights[s][at], mask[s % len(mask)][at], y[s][at])
        for s in range(streams)
        for at in parts
    ]
    threads = min(c.workers.threads, len(blocks))
    largest = max(len(block[0]) for block in blocks)
    c.parallel(
        partial(_index, blocks[i::threads], c.scratch((largest, heads, k.shape[1])))
        for i in range(threads)
    )


def _index(blocks: Sequence[tuple[Array, ...]], scratch: Array) -> None:
    for q, k, weights, mask, y in blocks:
        scores = scratch[: len(q)]
        np.matmul(q, k, scores)
        np.maximum(scores, ZERO, out=scores)
        np.matmul(weights[:, None], scores, y[:, None])
        np.add(y, mask, y)


@kernel(Op.DSV4_HC_COMB)
def dsv4_hc_comb(node: Node, c: Compiler) -> None:
    """A matrix for each token whose rows and columns are normalised in turn.

    The tokens are the last axis, so that numpy sums contiguous rows.
    """
    mixes = c.f32(node.source(MIXES))[0, 0, :, 2 * HC :]
    base = c.f32(node.source(BASE))[0, 0, 0, 2 * HC :].reshape(HC, HC, 1)
    scale = c.f32(node.source(SCALE))[0, 0, 0, 2:3]
    tokens = len(mixes)
    y = c.result(node.tensor)[0].transpose(1, 2, 0)
    comb, sums = c.scratch((HC, HC, tokens)), c.scratch((HC, tokens))
    mixes = mixes.reshape(tokens, HC, HC).transpose(1, 2, 0)
    c.elementwise(np.multiply, (mixes, scale), comb)
    c.elementwise(np.add, (comb, base), comb)
    eps, n_iter = scalar(node.params.eps), node.params.n_iter
    c.step(_sinkhorn, comb, sums[:, None], sums[None], eps, n_iter)
    c.elementwise(np.positive, (comb,), y)


def _sinkhorn(
    comb: Array, of_rows: Array, of_columns: Array, eps: Array, n_iter: int
) -> None:
    """Softmax of the rows, then normalise columns n_iter times and rows in between.

    Args:
        comb: the matrices, (source, destination, token); a row has one source.
        of_rows: scratch for the sums of rows, (source, 1, token).
        of_columns: the same scratch, as (1, destination, token).
        eps: is added to the softmax and to each sum.
        n_iter: the number of normalisations of the columns.
    """
    np.maximum.reduce(comb, axis=1, out=of_rows, keepdims=True)
    np.subtract(comb, of_rows, comb)
    np.exp(comb, comb)
    np.add.reduce(comb, axis=1, out=of_rows, keepdims=True)
    np.divide(comb, of_rows, comb)
    np.add(comb, eps, comb)
    _normalize(comb, 0, of_columns, eps)
    for _ in range(n_iter - 1):
        _normalize(comb, 1, of_rows, eps)
        _normalize(comb, 0, of_columns, eps)


def _normalize(comb: Array, axis: int, sums: Array, eps: Array) -> None:
    np.add.reduce(comb, axis=axis, out=sums, keepdims=True)
    np.add(sums, eps, sums)
    np.divide(comb, sums, comb)


@kernel(Op.DSV4_HC_PRE)
def dsv4_hc_pre(node: Node, c: Compiler) -> None:
    """y[t] = factor * sum_h weights[t, h] x[t, h].

    If it is gated, each element has its own weight, to which sigmoid is applied.
    """
    x, weights = c.f32(node.source(X))[0], c.f32(node.source(PRE_WEIGHTS))[0]
    y = c.result(node.tensor)[0, 0]
    if node.params.gated:
        gated = c.scratch(x.shape)
        c.rows(_gate, (weights, x, gated))
        c.step(_sum, gated, y)
    else:
        c.step(np.matmul, weights[0][:, None], x, y[:, None])
    if node.params.factor != 1:
        c.elementwise(np.multiply, (y, scalar(node.params.factor)), y)


def _gate(weights: Array, x: Array, y: Array) -> None:
    sigmoid(weights, y, y)
    np.multiply(x, y, y)


def _sum(x: Array, y: Array) -> None:
    np.add.reduce(x, axis=1, out=y)


@kernel(Op.DSV4_HC_POST)
def dsv4_hc_post(node: Node, c: Compiler) -> None:
    """y[t, i] = post[t, i] x[t] + sum_j comb[t, j, i] residual[t, j].

    Without comb, the second term is residual[t, i].
    """
    x, post = c.f32(node.source(X))[0, 0], c.f32(node.source(POST))[0, 0]
    residual, y = c.f32(node.source(RESIDUAL))[0], c.result(node.tensor)[0]
    comb, added = node.src[COMB], c.scratch(y.shape)
    if comb is not None:
        mixed = c.scratch(y.shape)
        c.step(np.matmul, c.f32(comb)[0].swapaxes(1, 2), residual, mixed)
        residual = mixed
    c.elementwise(np.multiply, (x[:, None], post[..., None]), added)
    c.elementwise(np.add, (residual, added), y)
