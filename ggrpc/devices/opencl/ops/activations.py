"""Launches for UNARY and GLU, the activation functions."""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32
from ggrpc.op import GluOp, UnaryOp
from ggrpc.ops import Node, Op
from ggrpc.ops.activations import A, B, clamps

# The define GATED of kernels that compute a GLU.
GATED = {
    GluOp.SWIGLU: "SWIGLU",
    GluOp.GEGLU: "GEGLU",
    GluOp.GEGLU_QUICK: "GEGLU_QUICK",
    GluOp.GEGLU_ERF: "GEGLU_ERF",
    GluOp.REGLU: "REGLU",
    GluOp.SWIGLU_OAI: "CLAMPED",
    GluOp.SWIGLU_CLAMP: "CLAMPED",
}


def _accepts_unary(node: Node) -> bool:
    return node.params.op != UnaryOp.XIELU and all_dense_f32(node)


@kernel(Op.UNARY, accepts=_accepts_unary)
def unary(node: Node, c: Compiler) -> None:
    """Append y = f(x), one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("activations", "unary", FUNCTION=UnaryOp(node.params.op).name)
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.nb, y.nb)


@kernel(Op.GLU, accepts=all_dense_f32)
def glu(node: Node, c: Compiler) -> None:
    """Append y = f(gate) up, one work-group per row.

    With one source, gate and up are the two halves of each of its rows.
    """
    a, y = node.source(A), node.tensor
    b = node.src[B] or a
    gate_at = up_at = 0
    if node.src[B] is None:
        gate_at, up_at = (y.ne[0], 0) if node.params.swapped else (0, y.ne[0])
    kernel = c.kernel("activations", "glu", GATED=GATED[node.params.op])
    layouts = y.ne, a.nb, b.nb, y.nb, gate_at, up_at
    c.launch(kernel, (y.nrows,), a, b, y, *layouts, *clamps(node.params))
