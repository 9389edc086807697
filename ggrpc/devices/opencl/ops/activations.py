"""UNARY and GLU: a function of each element, and of one half times the other."""

from __future__ import annotations

from ggrpc.devices.opencl.ops.predicates import all_dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.op import GluOp, UnaryOp
from ggrpc.ops import Node, Op
from ggrpc.ops.activations import A, B, clamps

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
    """Append y = f(x)."""
    x, y = node.source(A), node.tensor
    name = c.kernel("activations", "unary", FUNCTION=UnaryOp(node.params.op).name)
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb)


@kernel(Op.GLU, accepts=all_dense_f32)
def glu(node: Node, c: Compiler) -> None:
    """Append y = f(gate) up; both are halves of a row where there is one source."""
    a, y = node.source(A), node.tensor
    b = node.src[B] or a
    gate_at = up_at = 0
    if node.src[B] is None:
        gate_at, up_at = (y.ne[0], 0) if node.params.swapped else (0, y.ne[0])
    name = c.kernel("activations", "glu", GATED=GATED[node.params.op])
    halves = y.ne, a.nb, b.nb, y.nb, gate_at, up_at
    c.launch(name, (rows_of(y),), a, b, y, *halves, *clamps(node.params))
