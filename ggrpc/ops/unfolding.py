"""IM2COL, IM2COL_3D, IM2COL_BACK, COL2IM_1D: images unfolded into windows."""

from __future__ import annotations

import math
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Rule, Source, define
from ggrpc.ops.rules import ANY, F32, MAX_TAPS, RESULT, any_shape, same_type
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, GGMLType

A, B = 0, 1
HALF_OR_FULL = frozenset({GGMLType.F16, GGMLType.F32})


class Im2colParams(NamedTuple):
    """Stride, padding and dilation in two dimensions.

    Attributes:
        is_2d: 1 for images; otherwise the second dimension is that of the channels.
    """

    s0: int
    s1: int
    p0: int
    p1: int
    d0: int
    d1: int
    is_2d: int


class Im2col3dParams(NamedTuple):
    """Stride, padding and dilation in three dimensions.

    Attributes:
        ic: the number of channels; the fourth dimension of `b` is channels * images.
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
    ic: int


class Col2im1dParams(NamedTuple):
    """Stride, channels of the result, and the elements cut off at both ends."""

    s0: int
    oc: int
    p0: int


def outputs(ne: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """The number of windows along a dimension; the division rounds towards 0, as in C.

    Source: ggml_calc_conv_output_size.
    """
    room = ne + 2 * padding - dilation * (kernel - 1) - 1
    return (room // stride if room >= 0 else -(-room // stride)) + 1


def strides(node: Node) -> str | None:
    """The rule that each stride is at least 1."""
    p = node.params
    used = [p.s0, getattr(p, "s2", 1)]
    if getattr(p, "is_2d", 1) == 1:
        used.append(getattr(p, "s1", 1))
    return f"a stride is {min(used)}, must be >= 1" if min(used) < 1 else None


def limit_taps(kernel: int, axes: int) -> Rule:
    """The rule that a window has at most MAX_TAPS elements.

    Args:
        kernel: the source whose first dimensions are the window.
        axes: the number of those dimensions; 1 if the parameter `is_2d` is not 1.
    """

    def rule(node: Node) -> str | None:
        count = axes if getattr(node.params, "is_2d", 1) == 1 else 1
        taps = math.prod(node.source(kernel).ne[:count])
        if taps <= MAX_TAPS:
            return None
        return f"a window has {taps} elements, must have at most {MAX_TAPS}"

    return rule


def _columns_ne(kernel: Dims, image: Dims, p: Im2colParams) -> Dims:
    width = outputs(image[0], kernel[0], p.s0, p.p0, p.d0)
    if p.is_2d != 1:
        return kernel[1] * kernel[0], width, image[2], 1
    height = outputs(image[1], kernel[1], p.s1, p.p1, p.d1)
    return kernel[2] * kernel[1] * kernel[0], width, height, image[3]


def _same_channels(kernel: Dims, image: Dims, p: Im2colParams) -> str | None:
    axis = 2 if p.is_2d == 1 else 1
    if image[axis] != kernel[axis]:
        return f"the image has {image[axis]} channels, must have {kernel[axis]}"
    if p.is_2d != 1 and image[3] != 1:
        return f"the image's ne[3] is {image[3]}, must be 1"
    return None


def _im2col_ne(node: Node) -> Dims:
    return _columns_ne(node.source(A).ne, node.source(B).ne, node.params)


def _im2col_channels(node: Node) -> str | None:
    return _same_channels(node.source(A).ne, node.source(B).ne, node.params)


def _no_wider(node: Node) -> str | None:
    if node.tensor.type == GGMLType.F32 and node.source(B).type != GGMLType.F32:
        return "the result is F32, must be F16 because b is F16"
    return None


def _back_fits(node: Node) -> str | None:
    columns, kernel, image = node.source(A).ne, node.source(B).ne, node.tensor.ne
    ne = _columns_ne(kernel, image, node.params)
    if columns != ne:
        return f"a's ne is {list(columns)}, must be {list(ne)}"
    return _same_channels(kernel, image, node.params)


def _has_channels(node: Node) -> str | None:
    return None if node.params.ic > 0 else f"ic is {node.params.ic}, must be > 0"


def _im2col_3d_ne(node: Node) -> Dims:
    k, x, p = node.source(A).ne, node.source(B).ne, node.params
    return (
        k[0] * k[1] * k[2] * p.ic,
        outputs(x[0], k[0], p.s0, p.p0, p.d0),
        outputs(x[1], k[1], p.s1, p.p1, p.d1),
        outputs(x[2], k[2], p.s2, p.p2, p.d2) * (x[3] // p.ic),
    )


def _col2im_fits(node: Node) -> str | None:
    a, p = node.source(A).ne, node.params
    if a[2:] != (1, 1):
        return f"a's ne is {list(a)}, must be a matrix"
    if p.oc < 1 or p.p0 < 0:
        return f"oc is {p.oc} and p0 is {p.p0}, must be > 0 and >= 0"
    if a[0] % p.oc or not a[0]:
        return f"a.ne[0] is {a[0]}, must be > 0 and a multiple of oc, {p.oc}"
    if a[0] // p.oc > MAX_TAPS:
        return f"a window has {a[0] // p.oc} elements, must have at most {MAX_TAPS}"
    return None


def _col2im_ne(node: Node) -> Dims:
    a, p = node.source(A).ne, node.params
    return (a[1] - 1) * p.s0 + a[0] // p.oc - 2 * p.p0, p.oc, 1, 1


_kernel = Source("a", ANY)  # only its shape is read

define(
    Contract(
        Op.IM2COL,
        (_kernel, Source("b", HALF_OR_FULL)),
        HALF_OR_FULL,
        _im2col_ne,
        Im2colParams,
        (strides, limit_taps(A, 2), _im2col_channels, _no_wider),
    ),
    Contract(
        Op.IM2COL_BACK,
        (Source("a", F32), Source("b", HALF_OR_FULL)),
        F32,
        any_shape,
        Im2colParams,
        (strides, limit_taps(B, 2), _back_fits),
    ),
    Contract(
        Op.IM2COL_3D,
        (_kernel, Source("b", F32)),
        HALF_OR_FULL,
        _im2col_3d_ne,
        Im2col3dParams,
        (strides, limit_taps(A, 3), _has_channels),
    ),
    Contract(
        Op.COL2IM_1D,
        (Source("a", FLOATS),),
        FLOATS,
        _col2im_ne,
        Col2im1dParams,
        (strides, same_type(A, RESULT), _col2im_fits),
    ),
)
