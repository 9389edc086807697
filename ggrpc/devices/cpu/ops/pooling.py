"""POOL_1D, POOL_2D, POOL_2D_BACK in numpy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import MIN_PARALLEL, Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import scalar
from ggrpc.devices.cpu.ops.sliding import Slide, Tap, fold, iter_taps
from ggrpc.formats.codecs import Array, pieces
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.pooling import AF, A, PoolOp
from ggrpc.tensor import Dims

# The ufunc that reduces a window, and ggml's result for an empty window.
REDUCERS = {
    PoolOp.MAX: (np.maximum, -float(np.finfo(np.float32).max)),
    PoolOp.AVG: (np.add, 0.0),
}


@kernel(Op.POOL_1D)
def pool_1d(node: Node, c: Compiler) -> None:
    """Pool rows; the average ignores the padding."""
    p, y = node.params, c.view(node.tensor)
    slide = Slide(node.source(A).ne[0], y.shape[-1], p.k0, p.s0, p.p0)
    _reduce(c, p.op, slide, c.f32(node.source(A)), y)
    if p.op == PoolOp.AVG:
        c.check_parts(slide.windows)
        counts = [max(1, stop - start) for start, stop in slide.spans()]
        c.elementwise(np.divide, (y, np.array(counts, np.float32)), y)


@kernel(Op.POOL_2D)
def pool_2d(node: Node, c: Compiler) -> None:
    """Pool one axis after the other; the average counts the padding as zeros."""
    p, x, y = node.params, c.f32(node.source(A)), c.view(node.tensor)
    first, second = _plane(node, node.source(A).ne, node.tensor.ne)
    out = y
    if x.shape[2] * y.shape[3] > y.shape[2] * x.shape[3]:
        x, out = x.swapaxes(2, 3), y.swapaxes(2, 3)
        first, second = second, first
    between = c.scratch((*x.shape[:3], out.shape[3]))
    _reduce(c, p.op, second, x, between)
    _reduce(c, p.op, first, between.swapaxes(2, 3), out.swapaxes(2, 3))
    if p.op == PoolOp.AVG:
        c.elementwise(np.divide, (y, scalar(p.k0 * p.k1)), y)


def _plane(node: Node, image: Dims, pooled: Dims) -> tuple[Slide, Slide]:
    p = node.params
    return (
        Slide(image[1], pooled[1], p.k1, p.s1, p.p1),
        Slide(image[0], pooled[0], p.k0, p.s0, p.p0),
    )


def _reduce(c: Compiler, op: int, slide: Slide, x: Array, y: Array) -> None:
    """Append the reduction of the windows along the last axis.

    There is one call per element of the kernel, or per window if those are fewer.
    """
    ufunc, empty = REDUCERS[PoolOp(op)]
    threads = c.workers.threads if x.size >= MIN_PARALLEL else 1
    c.check_parts(threads * min(slide.kernel, slide.windows))
    tasks = []
    for at in pieces((*x.shape[:-1], 1), threads):
        if slide.kernel <= slide.windows:
            taps = iter_taps([slide])
            pairs = [(x[at][tap.image], y[at][tap.windows]) for tap in taps]
            tasks.append(partial(_by_element, ufunc, empty, pairs, y[at]))
        else:
            spans = enumerate(slide.spans())
            pairs = [(x[at][..., i:j], y[at][..., n]) for n, (i, j) in spans]
            tasks.append(partial(_by_window, ufunc, empty, pairs))
    c.parallel(tasks)


def _by_element(
    ufunc: np.ufunc, empty: float, pairs: Iterable[tuple[Array, Array]], y: Array
) -> None:
    y.fill(empty)
    for source, target in pairs:
        ufunc(target, source, out=target)


def _by_window(
    ufunc: np.ufunc, empty: float, pairs: Iterable[tuple[Array, Array]]
) -> None:
    for source, target in pairs:
        ufunc.reduce(source, axis=-1, out=target, initial=empty)


@kernel(Op.POOL_2D_BACK)
def pool_2d_back(node: Node, c: Compiler) -> None:
    """Distribute each gradient over its window, or add it to the first maximum."""
    p, a = node.params, node.source(A)
    grads, y = c.view(a), c.view(node.tensor)
    slides = _plane(node, node.tensor.ne, a.ne)
    c.check_parts(2 * p.k0 * p.k1)
    if p.op == PoolOp.AVG:
        shares = c.scratch(grads.shape)
        c.elementwise(np.divide, (grads, scalar(p.k0 * p.k1)), shares)
        shape = (*grads.shape[:2], p.k1, p.k0, *grads.shape[2:])
        windows = np.broadcast_to(shares[:, :, np.newaxis, np.newaxis], shape)
        c.step(fold(slides, y, windows))
        return
    x, best = c.view(node.source(AF)), c.scratch(grads.shape)
    chosen = c.scratch(grads.shape, np.int64)
    mask = c.scratch(grads.shape, np.bool_)
    taps = list(iter_taps(slides))
    c.step(_choose, taps, x, best, chosen, mask)
    c.step(_scatter, taps, grads, chosen, mask, y)


def _choose(
    taps: Sequence[Tap], x: Array, best: Array, chosen: Array, mask: Array
) -> None:
    """Write the index of the first maximum of each window to `chosen`."""
    best.fill(REDUCERS[PoolOp.MAX][1])
    chosen.fill(-1)
    for number, (_, windows, image) in enumerate(taps):
        source = x[image]
        np.greater(source, best[windows], mask[windows])
        np.copyto(best[windows], source, where=mask[windows])
        np.copyto(chosen[windows], number, where=mask[windows])


def _scatter(
    taps: Sequence[Tap], grads: Array, chosen: Array, mask: Array, y: Array
) -> None:
    y.fill(0)
    for number, (_, windows, image) in enumerate(taps):
        out = y[image]
        np.equal(chosen[windows], number, mask[windows])
        np.add(out, grads[windows], out, where=mask[windows])
