"""Gradients and losses in numpy.

SILU_BACK, RMS_NORM_BACK, SOFT_MAX_BACK, GET_ROWS_BACK, FLASH_ATTN_BACK,
CROSS_ENTROPY_LOSS and CROSS_ENTROPY_LOSS_BACK.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.activations import sigmoid
from ggrpc.devices.cpu.ops.broadcast import scalar
from ggrpc.devices.cpu.ops.indices import index_check
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.backward import (
    BACK_LABELS,
    BACK_LOGITS,
    GRAD,
    LABELS,
    LOGITS,
    RESULT_GRAD,
    ROW_IDS,
    A,
    K,
    Q,
    V,
    gradient_offsets,
)

ONE = scalar(1)


@kernel(Op.SILU_BACK)
def silu_back(node: Node, c: Compiler) -> None:
    """Compute y = grad * s * (1 + x (1 - s)), s = sigmoid(x)."""
    arrays = c.f32(node.source(GRAD)), c.f32(node.source(A)), c.result(node.tensor)
    c.rows(_silu_back, arrays, [node.tensor.ne[0]] * 2)


def _silu_back(grad: Array, x: Array, y: Array, s: Array, t: Array) -> None:
    sigmoid(x, s, s)
    np.subtract(ONE, s, t)
    np.multiply(t, x, t)
    np.add(t, ONE, t)
    np.multiply(t, s, t)
    np.multiply(t, grad, y)


@kernel(Op.RMS_NORM_BACK)
def rms_norm_back(node: Node, c: Compiler) -> None:
    """Compute the gradient of RMS_NORM.

    y = (grad - x sum(x grad) / (sum(x x) + n eps)) / sqrt(mean(x x) + eps).
    """
    arrays = c.f32(node.source(GRAD)), c.f32(node.source(A)), c.result(node.tensor)
    function = partial(_rms_norm_back, scalar(node.params.eps))
    c.rows(function, arrays, [1, 1, node.tensor.ne[0]])


def _rms_norm_back(
    eps: Array, grad: Array, x: Array, y: Array, mean: Array, s: Array, t: Array
) -> None:
    n = x.shape[-1]
    _dot(x, x, mean)
    np.divide(mean, n, mean)
    np.add(mean, eps, mean)
    _dot(x, grad, s)
    np.divide(s, n, s)
    np.divide(s, mean, s)
    np.sqrt(mean, mean)
    np.multiply(x, s, t)
    np.subtract(grad, t, t)
    np.divide(t, mean, y)


@kernel(Op.SOFT_MAX_BACK)
def soft_max_back(node: Node, c: Compiler) -> None:
    """Compute y = scale * w * (grad - sum(w grad)); w is the result of SOFT_MAX."""
    arrays = c.f32(node.source(GRAD)), c.f32(node.source(A)), c.result(node.tensor)
    function = partial(_soft_max_back, scalar(node.params.scale))
    c.rows(function, arrays, [1, node.tensor.ne[0]])


def _soft_max_back(
    scale: Array, grad: Array, weights: Array, y: Array, s: Array, t: Array
) -> None:
    _dot(weights, grad, s)
    np.subtract(grad, s, t)
    np.multiply(t, weights, t)
    np.multiply(t, scale, y)


def _dot(x: Array, y: Array, s: Array) -> None:
    np.matmul(x[..., None, :], y[..., None], s[..., None])


@kernel(Op.GET_ROWS_BACK)
def get_rows_back(node: Node, c: Compiler) -> None:
    """y[b[i]] += grad[i], with y = 0 at first."""
    index, y = node.source(ROW_IDS), c.result(node.tensor)[0, 0]
    check = index_check(node, index, node.tensor.ne[1])
    ids, grad = c.view(index)[0, 0, 0], c.f32(node.source(GRAD))[0, 0]
    # The sorted gradients and their sums, and a few arrays of indices.
    c.reserve(2 * grad.nbytes + 4 * 8 * ids.size)
    c.step(_get_rows_back, check, ids, grad[: len(ids)], y)


def _get_rows_back(
    check: Callable[[Array], None], ids: Array, grad: Array, y: Array
) -> None:
    """Sort by id and sum equal ids, so that each row is written once."""
    y.fill(0)
    if not ids.size:
        return
    check(ids)
    order = ids.argsort(kind="stable")
    rows, starts = np.unique(ids[order], return_index=True)
    y[rows] = np.add.reduceat(grad[order], starts, axis=0)


@kernel(Op.CROSS_ENTROPY_LOSS)
def cross_entropy_loss(node: Node, c: Compiler) -> None:
    """Compute y = -sum(labels * log(softmax(logits))) / rows."""
    logits, labels = c.f32(node.source(LOGITS)), c.f32(node.source(LABELS))
    losses, y = c.scratch((*logits.shape[:-1], 1)), c.result(node.tensor)
    width = logits.shape[-1]
    c.rows(_cross_entropy, (logits, labels, losses), [1, width, width])
    c.step(_mean, losses, y)


def _cross_entropy(
    logits: Array, labels: Array, loss: Array, s: Array, t: Array, u: Array
) -> None:
    np.maximum.reduce(logits, axis=-1, out=s, keepdims=True, initial=-np.inf)
    np.subtract(logits, s, t)
    np.exp(t, u)
    np.add.reduce(u, axis=-1, out=s, keepdims=True)
    np.log(s, s)
    np.subtract(s, t, t)
    np.multiply(t, labels, t)
    np.add.reduce(t, axis=-1, out=loss, keepdims=True)


def _mean(losses: Array, y: Array) -> None:
    y[...] = np.add.reduce(losses, axis=None, dtype=np.float64) / losses.size


@kernel(Op.CROSS_ENTROPY_LOSS_BACK)
def cross_entropy_loss_back(node: Node, c: Compiler) -> None:
    """Compute y = (softmax(logits) - labels) * grad / rows."""
    logits, labels = c.f32(node.source(BACK_LOGITS)), c.f32(node.source(BACK_LABELS))
    y, grad = c.result(node.tensor), c.f32(node.source(GRAD))
    share = c.scratch(grad.shape)
    c.step(np.divide, grad, scalar(node.tensor.nrows), share)
    c.rows(partial(_cross_entropy_back, share), (logits, labels, y), [1, y.shape[-1]])


def _cross_entropy_back(
    share: Array, logits: Array, labels: Array, y: Array, s: Array, t: Array
) -> None:
    np.maximum.reduce(logits, axis=-1, out=s, keepdims=True, initial=-np.inf)
    np.subtract(logits, s, t)
    np.exp(t, t)
    np.add.reduce(t, axis=-1, out=s, keepdims=True)
    np.divide(t, s, t)
    np.subtract(t, labels, t)
    np.multiply(t, share, y)


@kernel(Op.FLASH_ATTN_BACK)
def flash_attn_back(node: Node, c: Compiler) -> None:
    """The gradients of q, k and v, where d is that of softmax(scale q k^T) v^T.

    Head h of q uses head h % n of k and v, whose gradients are sums over those heads.
    """
    k, v = (c.f32(node.source(at))[:, None] for at in (K, V))
    q, d = (_by_head_of_k(c.f32(node.source(at)), k) for at in (Q, RESULT_GRAD))
    scale = scalar(node.source(Q).ne[0] ** -0.5)
    weights = _weights(node, q, k, scale, c)
    back = c.scratch(weights.shape)
    c.step(np.matmul, d, v, back)
    arrays, width = (back, weights, back), weights.shape[-1]
    c.rows(partial(_soft_max_back, scale), arrays, [1, width])
    y, offsets = c.result(node.tensor)[0, 0, 0], gradient_offsets(node)
    c.step(y.fill, 0)
    dq = y[: q.size].reshape(q.shape)
    dk, dv = (y[at : at + k.size] for at in offsets[1:3])
    c.step(np.matmul, back, k, dq)
    _summed_product(back, q, dk, c)
    _summed_product(d, weights, dv, c)


def _by_head_of_k(x: Array, k: Array) -> Array:
    """Reshape (n, heads of q, ...) to (n, heads of q per one of k, heads of k, ...)."""
    heads = k.shape[2]
    return x.reshape(len(x), x.shape[1] // max(1, heads), heads, *x.shape[2:])


def _weights(node: Node, q: Array, k: Array, scale: Array, c: Compiler) -> Array:
    """Append softmax(scale q k^T); returns its result, the weights of the keys."""
    tokens, keys = q.shape[-2], k.shape[-2]
    weights = c.scratch((*q.shape[:-1], keys))
    c.step(np.matmul, q, k.swapaxes(-1, -2), weights)
    c.elementwise(np.multiply, (weights, scale), weights)
    if node.params.masked:
        hidden = ~np.tri(tokens, keys, keys - tokens, dtype=bool)
        c.step(partial(np.copyto, weights, -np.inf, where=hidden))
    c.rows(_soft_max, (weights,), [1])
    return weights


def _soft_max(x: Array, s: Array) -> None:
    np.maximum.reduce(x, axis=-1, out=s, keepdims=True, initial=-np.inf)
    np.subtract(x, s, x)
    np.exp(x, x)
    np.add.reduce(x, axis=-1, out=s, keepdims=True)
    np.divide(x, s, x)


def _summed_product(x: Array, y: Array, out: Array, c: Compiler) -> None:
    """Append x^T y, summed over the heads of q that share a head of k."""
    x = x.swapaxes(-1, -2)
    each = c.scratch((*x.shape[:-1], y.shape[-1]))
    c.step(np.matmul, x, y, each)
    shape = len(each), *each.shape[2:]
    c.step(partial(np.add.reduce, each, axis=1, out=out.reshape(shape)))
