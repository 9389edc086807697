"""Launches for ADD, SUB, MUL, DIV, SCALE, CLAMP, and functions of each element."""

from __future__ import annotations

import math

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32
from ggrpc.ops import Node, Op
from ggrpc.ops.arithmetic import A, B

ELEMENTWISE = (
    *(Op.SCALE, Op.CLAMP, Op.LEAKY_RELU, Op.FILL),
    *(Op.SQR, Op.SQRT, Op.LOG, Op.SIN, Op.COS),
)


def _accepts_binary(node: Node) -> bool:
    """The kernel broadcasts b over whole rows, or one element of b over each row."""
    return all_dense_f32(node) and node.source(B).ne[0] in (1, node.tensor.ne[0])


@kernel(Op.ADD, Op.SUB, Op.MUL, Op.DIV, accepts=_accepts_binary)
def binary(node: Node, c: Compiler) -> None:
    """Append y = a op b, one work-group per row."""
    a, b, y = node.source(A), node.source(B), node.tensor
    kernel = c.kernel("arithmetic", y.op.name.lower())
    c.launch(kernel, (y.nrows,), a, b, y, y.ne, a.nb, b.ne, b.nb, y.nb)


def _accepts_elementwise(node: Node) -> bool:
    return all_dense_f32(node) and not any(map(math.isnan, node.params or ()))


@kernel(*ELEMENTWISE, accepts=_accepts_elementwise)
def elementwise(node: Node, c: Compiler) -> None:
    """Append y = f(x) with up to two parameters, one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("arithmetic", "elementwise", FUNCTION=y.op.name)
    first, second = (*map(float, node.params), 0.0, 0.0)[:2]
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.nb, y.nb, first, second)
