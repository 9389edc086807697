"""CONV_2D, CONV_2D_DW, CONV_3D, CONV_TRANSPOSE_1D, CONV_TRANSPOSE_2D: convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, equal
from ggrpc.ops.unfolding import HALF_OR_FULL, limit_taps, outputs, strides
from ggrpc.tensor import Dims

A, B = 0, 1


class Conv2dParams(NamedTuple):
    """Stride, padding and dilation in two dimensions."""

    s0: int
    s1: int
    p0: int
    p1: int
    d0: int
    d1: int


class Conv3dParams(NamedTuple):
    """Stride, padding and dilation in three dimensions.

    Attributes:
        c, n, oc: the number of channels, of images, and of channels of the result. The
            fourth dimension of `a` is c * oc, that of `b` is c * n.
    """

    s0: int
    s1: int
    s2: int
    p0: int
    p1: int
    p2: int
    d0: int
    d1: int
    d2: int
    c: int
    n: int
    oc: int


class ConvTranspose1dParams(NamedTuple):
    """Stride, padding and dilation; ggml supports padding 0 and dilation 1 only."""

    s0: int
    p0: int
    d0: int


class ConvTranspose2dParams(NamedTuple):
    """The stride of both dimensions."""

    s0: int


def _plane(node: Node) -> tuple[int, int]:
    k, x, p = node.source(A).ne, node.source(B).ne, node.params
    return (
        outputs(x[0], k[0], p.s0, p.p0, p.d0),
        outputs(x[1], k[1], p.s1, p.p1, p.d1),
    )


def _conv_2d_ne(node: Node) -> Dims:
    return *_plane(node), node.source(A).ne[3], node.source(B).ne[3]


def _conv_2d_dw_ne(node: Node) -> Dims:
    return *_plane(node), *node.source(B).ne[2:]


def _one_channel(node: Node) -> str | None:
    channels = node.source(A).ne[2]
    return None if channels == 1 else f"a.ne[2] is {channels}, must be 1"


def _conv_3d_ne(node: Node) -> Dims:
    k, x, p = node.source(A).ne, node.source(B).ne, node.params
    return *_plane(node), outputs(x[2], k[2], p.s2, p.p2, p.d2), p.oc * p.n


def _conv_3d_counts(node: Node) -> str | None:
    k, x, p = node.source(A).ne[3], node.source(B).ne[3], node.params
    if min(p.c, p.n, p.oc) < 0:
        return f"c, n and oc are {p.c}, {p.n} and {p.oc}, must not be negative"
    if k != p.c * p.oc:
        return f"a.ne[3] is {k}, must be c * oc, {p.c * p.oc}"
    return None if x == p.c * p.n else f"b.ne[3] is {x}, must be c * n, {p.c * p.n}"


def _transposed_size(ne: int, kernel: int, stride: int) -> int:
    return (ne - 1) * stride + kernel


def _conv_transpose_1d_ne(node: Node) -> Dims:
    k, x = node.source(A).ne, node.source(B).ne
    return _transposed_size(x[0], k[0], node.params.s0), k[1], x[2], 1


def _one_sequence(node: Node) -> str | None:
    a, b, p = node.source(A).ne, node.source(B).ne, node.params
    if a[3] != 1:
        return f"a.ne[3] is {a[3]}, must be 1"
    if b[2:] != (1, 1):
        return f"b's ne is {list(b)}, must be a matrix"
    if (p.p0, p.d0) != (0, 1):
        return f"p0 is {p.p0} and d0 is {p.d0}, must be 0 and 1"
    return None


def _conv_transpose_2d_ne(node: Node) -> Dims:
    k, x, s = node.source(A).ne, node.source(B).ne, node.params.s0
    return _transposed_size(x[0], k[0], s), _transposed_size(x[1], k[1], s), k[2], x[3]


_sources = (Source("a", HALF_OR_FULL), Source("b", F32))


def _taps(node: Node, axes: int) -> int:
    """The elements of the kernel along its first `axes` axes."""
    return math.prod(node.source(A).ne[:axes])


def _flops(axes: int) -> Callable[[Node], int]:
    """One multiply-add for each element of the result and of the kernel."""
    return lambda node: 2 * node.tensor.nelements * _taps(node, axes)


def _conv_3d_flops(node: Node) -> int:
    channels: int = max(0, node.params.c)
    return 2 * node.tensor.nelements * _taps(node, 3) * channels


def _transposed_flops(axes: int) -> Callable[[Node], int]:
    """One multiply-add for each element of b and of the kernel."""
    return lambda node: 2 * node.source(B).nelements * _taps(node, axes)


define(
    Contract(
        Op.CONV_2D,
        _sources,
        F32,
        _conv_2d_ne,
        Conv2dParams,
        (strides, limit_taps(A, 2), equal((A, 2), (B, 2))),
        flops=_flops(3),
    ),
    Contract(
        Op.CONV_2D_DW,
        _sources,
        F32,
        _conv_2d_dw_ne,
        Conv2dParams,
        (strides, limit_taps(A, 2), _one_channel, equal((A, 3), (B, 2))),
        flops=_flops(2),
    ),
    Contract(
        Op.CONV_3D,
        _sources,
        F32,
        _conv_3d_ne,
        Conv3dParams,
        (strides, limit_taps(A, 3), _conv_3d_counts),
        flops=_conv_3d_flops,
    ),
    Contract(
        Op.CONV_TRANSPOSE_1D,
        _sources,
        F32,
        _conv_transpose_1d_ne,
        ConvTranspose1dParams,
        (strides, limit_taps(A, 1), _one_sequence, equal((A, 2), (B, 1))),
        flops=_transposed_flops(2),
    ),
    Contract(
        Op.CONV_TRANSPOSE_2D,
        _sources,
        F32,
        _conv_transpose_2d_ne,
        ConvTranspose2dParams,
        (strides, limit_taps(A, 2), equal((A, 3), (B, 2))),
        flops=_transposed_flops(3),
    ),
)
