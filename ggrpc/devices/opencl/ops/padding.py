"""Launches for PAD with zeros."""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.padding import A


def _accepts(node: Node) -> bool:
    zeros = not node.params.circular
    return zeros and all_dense_f32(node) and disjoint(node.source(A), node.tensor)


@kernel(Op.PAD, accepts=_accepts)
def pad(node: Node, c: Compiler) -> None:
    """Append the padded tensor, one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("padding", "pad")
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.ne, x.nb, y.nb, node.params.lp)
