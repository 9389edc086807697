"""Launches for RMS_NORM, NORM and L2_NORM."""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32
from ggrpc.ops import Node, Op
from ggrpc.ops.norms import A


@kernel(Op.RMS_NORM, Op.NORM, Op.L2_NORM, accepts=all_dense_f32)
def norm(node: Node, c: Compiler) -> None:
    """Append the normalized rows, one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("norms", y.op.name.lower())
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.nb, y.nb, node.params.eps)
