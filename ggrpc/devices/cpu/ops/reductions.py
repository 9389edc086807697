"""SUM, SUM_ROWS, MEAN, CUMSUM, COUNT_EQUAL, REPEAT_BACK, ARGMAX, ARGSORT, TOP_K."""

from __future__ import annotations

from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import repeated
from ggrpc.formats.codecs import GROUP, Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.reductions import A, B, SortOrder

# Memory for sorting per element: a copy, its index, and space for merging.
SORT_BYTES = 24


@kernel(Op.SUM)
def sum_all(node: Node, c: Compiler) -> None:
    """Like ggml, this ignores nb[0] and reads the elements of a row as contiguous."""
    a = node.source(A)
    dense = a._replace(nb=(a.type.type_size, *a.nb[1:]))
    c.step(_sum, c.f32(dense), c.result(node.tensor))


@kernel(Op.SUM_ROWS)
def sum_rows(node: Node, c: Compiler) -> None:
    c.rows(_sum_rows, (c.f32(node.source(A)), c.result(node.tensor)))


@kernel(Op.MEAN)
def mean(node: Node, c: Compiler) -> None:
    c.rows(_mean, (c.f32(node.source(A)), c.result(node.tensor)))


@kernel(Op.CUMSUM)
def cumsum(node: Node, c: Compiler) -> None:
    """y[i] = x[0] + ... + x[i] in each row."""
    c.rows(_cumsum, (c.f32(node.source(A)), c.result(node.tensor)))


@kernel(Op.COUNT_EQUAL)
def count_equal(node: Node, c: Compiler) -> None:
    a, b, y = c.view(node.source(A)), c.view(node.source(B)), c.view(node.tensor)
    c.reserve(a.size)
    c.step(_count_equal, a, b, y)


@kernel(Op.REPEAT_BACK)
def repeat_back(node: Node, c: Compiler) -> None:
    """The sum of all copies that REPEAT makes of an element."""
    y, x = repeated(c.result(node.tensor), c.f32(node.source(A)))
    axes = tuple(
        i for i, (n, m) in enumerate(zip(x.shape, y.shape, strict=True)) if n != m
    )
    c.step(partial(np.add.reduce, x, axis=axes, out=y, keepdims=True))


@kernel(Op.ARGMAX)
def argmax(node: Node, c: Compiler) -> None:
    c.step(_argmax, c.f32(node.source(A))[0, 0], c.view(node.tensor)[0, 0, 0])


@kernel(Op.ARGSORT)
def argsort(node: Node, c: Compiler) -> None:
    function = _ascending if node.params.order == SortOrder.ASC else _descending
    c.reserve(_sort_memory(node, c))
    c.rows(function, (c.f32(node.source(A)), c.view(node.tensor)))


@kernel(Op.TOP_K)
def top_k(node: Node, c: Compiler) -> None:
    c.reserve(_sort_memory(node, c))
    c.rows(_top_k, (c.f32(node.source(A)), c.view(node.tensor)))


def _sort_memory(node: Node, c: Compiler) -> int:
    """The bytes that numpy allocates to sort the rows of all threads at once."""
    row = node.source(A).ne[0]
    at_once = min(node.source(A).nelements, c.workers.threads * max(row, GROUP))
    return at_once * SORT_BYTES


def _sum(x: Array, y: Array) -> None:
    y[...] = np.add.reduce(x, axis=None, dtype=np.float64)


def _mean(x: Array, y: Array) -> None:
    _sum_rows(x, y)
    np.divide(y, x.shape[-1], y)


def _cumsum(x: Array, y: Array) -> None:
    np.add.accumulate(x, axis=-1, out=y)


def _count_equal(a: Array, b: Array, y: Array) -> None:
    y[...] = np.count_nonzero(a == b)


def _sum_rows(x: Array, y: Array) -> None:
    np.add.reduce(x, axis=-1, out=y, keepdims=True)


def _argmax(x: Array, y: Array) -> None:
    """The last maximum of each row, as in ggml; numpy's argmax finds the first."""
    np.subtract(x.shape[-1] - 1, x[:, ::-1].argmax(axis=-1), out=y, casting="unsafe")


def _ascending(x: Array, y: Array) -> None:
    y[...] = x.argsort(axis=-1, kind="stable")


def _descending(x: Array, y: Array) -> None:
    y[...] = np.negative(x).argsort(axis=-1, kind="stable")


def _top_k(x: Array, y: Array) -> None:
    """The indices of the k largest elements in ggml's order: the largest is second."""
    k = y.shape[-1]
    x = np.negative(x)
    found = x.argpartition(k - 1, axis=-1)[..., :k]
    order = np.take_along_axis(x, found, -1).argsort(axis=-1, kind="stable")
    y[...] = np.take_along_axis(found, order, -1)
    if k > 1:
        y[..., :2] = y[..., 1::-1]
