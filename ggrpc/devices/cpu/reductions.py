"""SUM_ROWS, ARGMAX, ARGSORT in numpy."""

from __future__ import annotations

import numpy as np

from ggrpc.devices.cpu.arrays import Array
from ggrpc.devices.cpu.program import Compiler, kernel
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.reductions import A, SortOrder


@kernel(Op.SUM_ROWS)
def sum_rows(node: Node, c: Compiler) -> None:
    c.rows(_sum_rows, (c.f32(node.source(A)), c.result(node.tensor)))


@kernel(Op.ARGMAX)
def argmax(node: Node, c: Compiler) -> None:
    c.step(_argmax, c.f32(node.source(A))[0, 0], c.view(node.tensor)[0, 0, 0])


@kernel(Op.ARGSORT)
def argsort(node: Node, c: Compiler) -> None:
    function = _ascending if node.params.order == SortOrder.ASC else _descending
    c.rows(function, (c.f32(node.source(A)), c.view(node.tensor)))


def _sum_rows(x: Array, y: Array) -> None:
    np.add.reduce(x, axis=-1, out=y, keepdims=True)


def _argmax(x: Array, y: Array) -> None:
    """Of equal values ggml takes the last, numpy the first."""
    np.subtract(x.shape[-1] - 1, x[:, ::-1].argmax(axis=-1), out=y, casting="unsafe")


def _ascending(x: Array, y: Array) -> None:
    y[...] = x.argsort(axis=-1, kind="stable")


def _descending(x: Array, y: Array) -> None:
    y[...] = np.negative(x).argsort(axis=-1, kind="stable")
