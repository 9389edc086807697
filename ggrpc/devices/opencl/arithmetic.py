"""ADD, SUB, MUL and DIV of F32, with broadcasting over whole rows."""

from __future__ import annotations

from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType


def _dense_f32(tensor: Tensor) -> bool:
    return tensor.type is GGMLType.F32 and tensor.nb[0] == 4


def _accepts(node: Node) -> bool:
    a, b = node.source(0), node.source(1)
    return all(map(_dense_f32, (a, b, node.tensor))) and b.ne[0] in (1, a.ne[0])


@kernel(Op.ADD, Op.SUB, Op.MUL, Op.DIV, accepts=_accepts)
def binary(node: Node, c: Compiler) -> None:
    """Append y = a op b, a work-group a row."""
    a, b, y = node.source(0), node.source(1), node.tensor
    c.launch(
        c.kernel("arithmetic", node.tensor.op.name.lower()),
        (y.ne[1] * y.ne[2] * y.ne[3],),
        *(a, b, y, y.ne, a.nb, b.ne, b.nb, y.nb),
    )
