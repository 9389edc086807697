"""NORM, RMS_NORM, L2_NORM, GROUP_NORM in numpy.

The sum of a row's squares is the product of the row with itself, computed by BLAS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import reshaped, scalar
from ggrpc.formats.codecs import Array, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.norms import A


@kernel(Op.NORM)
def norm(node: Node, c: Compiler) -> None:
    """Compute y = (x - mean) / sqrt(variance + eps)."""
    _rows(_norm, node, c)


@kernel(Op.RMS_NORM)
def rms_norm(node: Node, c: Compiler) -> None:
    """Compute y = x / sqrt(mean(x * x) + eps)."""
    if node.tensor.nrows > 1:
        _rows(_rms_norm, node, c)
        return
    x, y = c.f32(node.source(A))[0, 0, 0], c.result(node.tensor)[0, 0, 0]
    c.step(_rms_norm_row, x.size, node.params.eps, x, y, c.scratch(()))


@kernel(Op.L2_NORM)
def l2_norm(node: Node, c: Compiler) -> None:
    """Compute y = x / max(sqrt(sum(x * x)), eps)."""
    _rows(_l2_norm, node, c)


@kernel(Op.GROUP_NORM)
def group_norm(node: Node, c: Compiler) -> None:
    """NORM over all channels of a group."""
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    channels = node.params.channels(x.shape[1])
    whole = x.shape[1] // channels * channels
    for start, stop in ((0, whole), (whole, x.shape[1])):
        if start < stop:
            groups = (stop - start) // min(channels, stop - start)
            _norm_groups(c, node.params.eps, x[:, start:stop], y[:, start:stop], groups)


def _norm_groups(c: Compiler, eps: float, x: Array, y: Array, groups: int) -> None:
    """Append NORM of groups that have the same number of channels."""
    rows = (x.shape[0], groups, x[0].size // groups)
    source, target = reshaped(x, rows), reshaped(y, rows)
    if source is None or target is None:
        target = c.scratch(rows)
        source = target
        c.convert(cast, x, target.reshape(x.shape))
    c.rows(partial(_norm, scalar(eps)), (source, target), temps=(1,))
    if not np.may_share_memory(target, y):
        c.convert(cast, target.reshape(y.shape), y)


def _rows(function: Callable[..., None], node: Node, c: Compiler) -> None:
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    c.rows(partial(function, scalar(node.params.eps)), (x, y), temps=(1,))


def _norm(eps: Array, x: Array, y: Array, s: Array) -> None:
    np.add.reduce(x, axis=-1, out=s, keepdims=True)
    np.divide(s, x.shape[-1], s)
    np.subtract(x, s, y)
    _rms_norm(eps, y, y, s)


def _rms_norm(eps: Array, x: Array, y: Array, s: Array) -> None:
    _sum_of_squares(x, s)
    np.divide(s, x.shape[-1], s)
    np.add(s, eps, s)
    np.sqrt(s, s)
    np.divide(x, s, y)


def _l2_norm(eps: Array, x: Array, y: Array, s: Array) -> None:
    _sum_of_squares(x, s)
    np.sqrt(s, s)
    np.maximum(s, eps, out=s)
    np.divide(x, s, y)


def _sum_of_squares(x: Array, s: Array) -> None:
    np.matmul(x[..., None, :], x[..., None], s[..., None])


def _rms_norm_row(n: int, eps: float, x: Array, y: Array, s: Array) -> None:
    """RMS_NORM of a single row, as in decoding; takes fewer calls than `_rms_norm`."""
    np.dot(x, x, s)
    s[()] = sqrt(s.item() / n + eps)
    np.divide(x, s, y)
