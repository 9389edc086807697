"""IM2COL, IM2COL_3D, IM2COL_BACK, COL2IM_1D in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import MIN_PARALLEL, Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.sliding import Slide, fold, unfold
from ggrpc.devices.cpu.workers import Step
from ggrpc.formats.codecs import Array, cast, pieces
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.unfolding import A, B
from ggrpc.tensor import Dims

Slides = Sequence[Slide]


@kernel(Op.IM2COL)
def im2col(node: Node, c: Compiler) -> None:
    image, columns = node.source(B), node.tensor
    slides = _slides(node.source(A).ne, image.ne, columns.ne, node)
    x = _image(c.view(image), node)
    _spread(c, unfold, slides, x, _columns(c.view(columns), x, slides))


@kernel(Op.IM2COL_BACK)
def im2col_back(node: Node, c: Compiler) -> None:
    columns, image = node.source(A), node.tensor
    slides = _slides(node.source(B).ne, image.ne, columns.ne, node)
    x = _image(c.view(image), node)
    _spread(c, fold, slides, x, _columns(c.view(columns), x, slides))


@kernel(Op.IM2COL_3D)
def im2col_3d(node: Node, c: Compiler) -> None:
    k, image, p = node.source(A).ne, node.source(B), node.params
    ne, images = node.tensor.ne, image.ne[3] // p.ic
    slides = (
        Slide(image.ne[2], ne[3] // images, k[2], p.s2, p.p2, p.d2),
        Slide(image.ne[1], ne[2], k[1], p.s1, p.p1, p.d1),
        Slide(image.ne[0], ne[1], k[0], p.s0, p.p0, p.d0),
    )
    x = c.view(image)[: images * p.ic].reshape(images, p.ic, *image.ne[2::-1])
    _spread(c, unfold, slides, x, _columns(c.view(node.tensor), x, slides))


@kernel(Op.COL2IM_1D)
def col2im_1d(node: Node, c: Compiler) -> None:
    columns, p = node.source(A), node.params
    length, size = columns.ne[1], columns.ne[0] // p.oc
    windows = c.f32(columns)[0].reshape(1, length, p.oc, size)
    y = c.result(node.tensor)[0]
    if p.s0 > size:
        slide = Slide(y.shape[-1], length, size, p.s0, p.p0)
        _spread(c, fold, (slide,), y, windows.transpose(0, 2, 3, 1))
        return
    runs = -(-size // p.s0)
    whole = c.scratch((p.oc, length + runs - 1, p.s0))
    cut = whole.reshape(p.oc, -1)[:, p.p0 : p.p0 + y.shape[-1]]
    windows = windows[0].swapaxes(0, 1)
    threads = c.workers.threads if windows.size >= MIN_PARALLEL else 1
    c.parallel(
        partial(_overlap, windows[at], whole[at], cut[at], y[0][at])
        for at in pieces((p.oc, 1), threads)
    )


def _overlap(windows: Array, whole: Array, cut: Array, y: Array) -> None:
    """Sum windows in parts of the length of a stride, which do not overlap.

    Args:
        windows: (channels, windows, size).
        whole: scratch for the unpadded result, (channels, strides, stride).
        cut: a view of `whole` without the padding, (channels, elements).
        y: the result, (channels, elements).
    """
    count, stride = windows.shape[1], whole.shape[2]
    whole.fill(0)
    for at in range(0, windows.shape[2], stride):
        run = windows[:, :, at : at + stride]
        out = whole[:, at // stride :, : run.shape[2]][:, :count]
        np.add(out, run, out)
    cast(cut, y)


def _slides(kernel: Dims, image: Dims, columns: Dims, node: Node) -> Slides:
    p = node.params
    width = Slide(image[0], columns[1], kernel[0], p.s0, p.p0, p.d0)
    if p.is_2d != 1:
        return (width,)
    return Slide(image[1], columns[2], kernel[1], p.s1, p.p1, p.d1), width


def _image(view: Array, node: Node) -> Array:
    """The image as (images, channels, height, width), or without the height."""
    image: Array = view if node.params.is_2d == 1 else view[0]
    return image


def _columns(view: Array, image: Array, slides: Slides) -> Array:
    """A view of IM2COL's result in the layout of `unfold`.

    Returns:
        (images, channels, kernel axes, window axes).
    """
    windows = [slide.windows for slide in slides]
    kernels = [slide.kernel for slide in slides]
    split = view.reshape(image.shape[0], *windows, image.shape[1], *kernels)
    n = len(slides)
    return split.transpose(0, *range(n + 1, 2 * n + 2), *range(1, n + 1))


def _spread(
    c: Compiler,
    make: Callable[[Slides, Array, Array], Step],
    slides: Slides,
    image: Array,
    windows: Array,
) -> None:
    """Append the work on all images and channels, which are independent."""
    threads = c.workers.threads if windows.size >= MIN_PARALLEL else 1
    parts = pieces((*image.shape[:2], 1), threads)
    c.check_parts(len(parts) * math.prod(slide.kernel for slide in slides))
    c.parallel(make(slides, image[at], windows[at]) for at in parts)
