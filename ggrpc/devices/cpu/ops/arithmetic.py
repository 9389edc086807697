"""ADD, ADD1, SUB, MUL, DIV, SCALE, CLAMP, LEAKY_RELU and others, in numpy."""

from __future__ import annotations

from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.devices.cpu.ops.broadcast import repeated, scalar
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.arithmetic import A, B

BINARY = {
    Op.ADD: np.add,
    Op.ADD1: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.divide,
}
UNARY = {
    Op.SQR: np.square,
    Op.SQRT: np.sqrt,
    Op.LOG: np.log,
    Op.SIN: np.sin,
    Op.COS: np.cos,
}
ZERO = scalar(0)


@kernel(*BINARY)
def binary(node: Node, c: Compiler) -> None:
    """Compute y = a op b, with b repeated to the shape of a."""
    a, y = c.f32(node.source(A)), c.result(node.tensor)
    b, a, y = repeated(c.f32(node.source(B)), a, y)
    c.elementwise(BINARY[node.tensor.op], (a, b), y)


@kernel(*UNARY)
def unary(node: Node, c: Compiler) -> None:
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    c.elementwise(UNARY[node.tensor.op], (x,), y)


@kernel(Op.SCALE)
def scale(node: Node, c: Compiler) -> None:
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    c.elementwise(np.multiply, (x, scalar(node.params.scale)), y)
    if node.params.bias:
        c.elementwise(np.add, (y, scalar(node.params.bias)), y)


@kernel(Op.CLAMP)
def clamp(node: Node, c: Compiler) -> None:
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    low, high = map(scalar, node.params)
    c.rows(partial(_clamp, low, high), (x, y))


def _clamp(low: Array, high: Array, x: Array, y: Array) -> None:
    np.minimum(x, high, out=y)
    np.maximum(y, low, out=y)


@kernel(Op.LEAKY_RELU)
def leaky_relu(node: Node, c: Compiler) -> None:
    """Compute y = max(x, 0) + negative_slope min(x, 0)."""
    x, y = c.f32(node.source(A)), c.result(node.tensor)
    function = partial(_leaky_relu, scalar(node.params.negative_slope))
    c.rows(function, (x, y), [x.shape[-1]])


def _leaky_relu(slope: Array, x: Array, y: Array, t: Array) -> None:
    np.minimum(x, ZERO, out=t)
    np.multiply(t, slope, t)
    np.maximum(x, ZERO, out=y)
    np.add(y, t, y)
