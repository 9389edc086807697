"""ADD, SUB, MUL and DIV with broadcasting over whole rows; functions of elements."""

from __future__ import annotations

from ggrpc.devices.opencl.dense import all_dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op


def _accepts(node: Node) -> bool:
    return all_dense_f32(node) and node.source(1).ne[0] in (1, node.tensor.ne[0])


@kernel(Op.ADD, Op.SUB, Op.MUL, Op.DIV, accepts=_accepts)
def binary(node: Node, c: Compiler) -> None:
    """Append y = a op b, a work-group a row."""
    a, b, y = node.source(0), node.source(1), node.tensor
    name = c.kernel("arithmetic", y.op.name.lower())
    c.launch(name, (rows_of(y),), a, b, y, y.ne, a.nb, b.ne, b.nb, y.nb)


EACH = (
    *(Op.SCALE, Op.CLAMP, Op.LEAKY_RELU),
    *(Op.SQR, Op.SQRT, Op.LOG, Op.SIN, Op.COS),
)


@kernel(*EACH, accepts=all_dense_f32)
def each(node: Node, c: Compiler) -> None:
    """Append y = f(x), with up to two parameters."""
    x, y = node.source(0), node.tensor
    name = c.kernel("arithmetic", "each", FUNCTION=y.op.name)
    first, second = (*map(float, node.params), 0.0, 0.0)[:2]
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb, first, second)
