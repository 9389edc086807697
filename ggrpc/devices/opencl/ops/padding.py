"""PAD, with zeros."""

from __future__ import annotations

from ggrpc.devices.opencl.ops.predicates import all_dense_f32, disjoint, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.padding import A


def _accepts(node: Node) -> bool:
    zeros = not node.params.circular
    return zeros and all_dense_f32(node) and disjoint(node.source(A), node.tensor)


@kernel(Op.PAD, accepts=_accepts)
def pad(node: Node, c: Compiler) -> None:
    """Append y, a work-group a row."""
    x, y = node.source(A), node.tensor
    name = c.kernel("padding", "pad")
    c.launch(name, (rows_of(y),), x, y, y.ne, x.ne, x.nb, y.nb, node.params.lp)
