"""CONV_2D, CONV_3D, CONV_2D_DW, CONV_TRANSPOSE_1D, CONV_TRANSPOSE_2D with BLAS.

A convolution is the matrix product of the kernels and the windows of the image, which
are unfolded (im2col) one block at a time. The product of a transposed convolution
consists of windows, which are folded (col2im). Everything is computed in float32; ggml
rounds the image to F16 if the kernel is F16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import reshaped
from ggrpc.devices.cpu.ops.sliding import (
    Index,
    Slide,
    Tap,
    block_size,
    distribute,
    fold,
    iter_taps,
    run_all,
    unfold,
)
from ggrpc.devices.cpu.workers import Step
from ggrpc.formats.codecs import Array, Box, boxes, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.convolution import A, B

DEPTHWISE_BLOCK = 1 << 15  # elements that stay in a processor's cache

Slides = Sequence[Slide]


@kernel(Op.CONV_2D)
def conv_2d(node: Node, c: Compiler) -> None:
    x, y = c.view(node.source(B)), c.view(node.tensor)
    _convolve(c, _plane(node), c.f32(node.source(A)), x, y)


@kernel(Op.CONV_3D)
def conv_3d(node: Node, c: Compiler) -> None:
    a, b, p = node.source(A), node.source(B), node.params
    depth = Slide(b.ne[2], node.tensor.ne[2], a.ne[2], p.s2, p.p2, p.d2)
    kernels = c.f32(a).reshape(p.oc, p.c, *a.ne[2::-1])
    x = c.view(b).reshape(p.n, p.c, *b.ne[2::-1])
    y = c.view(node.tensor).reshape(p.n, p.oc, *node.tensor.ne[2::-1])
    _convolve(c, (depth, *_plane(node)), kernels, x, y)


def _plane(node: Node) -> tuple[Slide, Slide]:
    k, x, y, p = node.source(A).ne, node.source(B).ne, node.tensor.ne, node.params
    return (
        Slide(x[1], y[1], k[1], p.s1, p.p1, p.d1),
        Slide(x[0], y[0], k[0], p.s0, p.p0, p.d0),
    )


def _convolve(c: Compiler, slides: Slides, kernels: Array, x: Array, y: Array) -> None:
    """Append y = kernels * x.

    Args:
        c: the compiler.
        slides: the windows along each axis of an image.
        kernels: (oc, ic, kernel axes).
        x: (images, ic, image axes).
        y: (images, oc, window axes).
    """
    oc, elements = len(kernels), math.prod(kernels.shape[1:])
    matrix = _ready(c, kernels, (oc, elements))
    shape = y.shape[0], *y.shape[2:]
    taps = math.prod(kernels.shape[2:])
    size = block_size(c, math.prod(shape), elements + oc, taps)

    def block(box: Box, scratch: Array) -> Step:
        images, windows = box[0], box[1:]
        of_box = [s.of(w) for s, w in zip(slides, windows, strict=True)]
        part, out = x[images], y[(images, slice(None), *windows)]
        return _product(matrix, of_box, part, out, scratch)

    distribute(c, list(boxes(shape, size)), size * (elements + oc), block)


def _product(matrix: Array, slides: Slides, x: Array, y: Array, scratch: Array) -> Step:
    """A step that convolves a block; BLAS writes directly to `y` if possible."""
    oc, elements = matrix.shape
    n, count = len(x), math.prod(slide.windows for slide in slides)
    kernel, windows = zip(*((s.kernel, s.windows) for s in slides), strict=True)
    columns = scratch[: n * elements * count].reshape(n, elements, count)
    unfolded = columns.reshape(n, x.shape[1], *kernel, *windows)
    steps = [unfold(slides, x, unfolded)]
    out = reshaped(y, (n, oc, count))
    if out is None:
        out = scratch[columns.size :][: n * oc * count].reshape(n, oc, count)
        steps.append(partial(np.matmul, matrix, columns, out))
        steps.append(partial(cast, out.reshape(y.shape), y))
    else:
        steps.append(partial(np.matmul, matrix, columns, out))
    return partial(run_all, steps)


def _ready(c: Compiler, x: Array, shape: Sequence[int]) -> Array:
    """An array in another shape; appends a step that copies it if necessary."""
    view = reshaped(x, shape)
    if view is None:
        view = c.scratch(shape)
        c.convert(cast, x, view.reshape(x.shape))
    return view


@kernel(Op.CONV_TRANSPOSE_1D)
def conv_transpose_1d(node: Node, c: Compiler) -> None:
    a, b, p = node.source(A), node.source(B), node.params
    slide = Slide(node.tensor.ne[0], b.ne[0], a.ne[0], p.s0)
    x, y = c.view(b)[0], c.view(node.tensor)[0]
    _transposed(c, (slide,), c.f32(a)[0], x, y)


@kernel(Op.CONV_TRANSPOSE_2D)
def conv_transpose_2d(node: Node, c: Compiler) -> None:
    a, b, y, s = node.source(A), node.source(B), node.tensor, node.params.s0
    slides = [Slide(y.ne[i], b.ne[i], a.ne[i], s) for i in (1, 0)]
    _transposed(c, slides, c.f32(a), c.view(b), c.view(y))


def _transposed(
    c: Compiler, slides: Slides, kernels: Array, x: Array, y: Array
) -> None:
    """Append the transposed convolution of x: each element of x times the kernels.

    The products are windows of y, which are summed where they overlap.

    Args:
        c: the compiler.
        slides: the windows along each axis of an image of `y`.
        kernels: (ic, oc, kernel axes).
        x: (images, ic, window axes).
        y: (images, oc, image axes).
    """
    ic, oc, *kernel = kernels.shape
    elements, count = math.prod(kernel), math.prod(x.shape[2:])
    matrix = _ready(c, kernels, (ic, oc * elements)).T
    flat = _ready(c, x, (len(x), ic, count))
    size = block_size(c, len(x) * oc, elements * count, elements)

    def block(box: Box, scratch: Array) -> Step:
        images, channels = box
        out, inputs = y[box], flat[images]
        n, channels_here = out.shape[:2]
        rows = matrix[channels.start * elements : channels.stop * elements]
        shape = n, channels_here * elements, count
        windows = scratch[: math.prod(shape)].reshape(shape)
        unfolded = windows.reshape(n, channels_here, *kernel, *x.shape[2:])
        return partial(
            run_all,
            [partial(np.matmul, rows, inputs, windows), fold(slides, out, unfolded)],
        )

    distribute(c, list(boxes(y.shape[:2], size)), size * elements * count, block)


@kernel(Op.CONV_2D_DW)
def conv_2d_dw(node: Node, c: Compiler) -> None:
    """Depthwise convolution: one kernel per channel; blocks follow the memory order."""
    kernels = c.f32(node.source(A))[:, 0]
    x, y = c.view(node.source(B)), c.view(node.tensor)
    height, width = _plane(node)
    order = sorted(range(4), key=lambda axis: -y.strides[axis])
    back = [order.index(axis) for axis in range(4)]
    size = min(DEPTHWISE_BLOCK, block_size(c, y.size, 1, math.prod(kernels.shape[1:])))

    def block(box: Box, scratch: Array) -> Step:
        images, channels, rows, columns = (box[at] for at in back)
        taps = iter_taps((height.of(rows), width.of(columns)))
        out = y[images, channels, rows, columns]
        lengths = [out.shape[axis] for axis in order]
        product = scratch[: out.size].reshape(lengths).transpose(back)
        return _weigh(taps, kernels[channels], x[images, channels], out, product)

    cut = boxes([y.shape[axis] for axis in order], size)
    distribute(c, list(cut), size, block)


def _weigh(
    taps: Iterable[Tap], kernels: Array, x: Array, y: Array, product: Array
) -> Step:
    """A step that sums the products of the kernel elements and the image.

    Args:
        taps: the parts of the image that each element of the kernel meets.
        kernels: (channels, kernel axes).
        x: (images, channels, height, width).
        y: the windows; (images, channels, height, width).
        product: scratch of the shape and the memory order of `y`.
    """
    terms = []
    for each in taps:
        weight: Index = (slice(None), *each.element, np.newaxis, np.newaxis)
        at = each.windows
        terms.append((x[each.image], kernels[weight], product[at], y[at]))
    return partial(_sum_up, terms, y)


def _sum_up(terms: Sequence[tuple[Array, Array, Array, Array]], y: Array) -> None:
    y.fill(0)
    for x, weight, product, out in terms:
        np.multiply(x, weight, product)
        np.add(out, product, out)
