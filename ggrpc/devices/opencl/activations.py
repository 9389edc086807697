"""UNARY and GLU: a function of each element, and of one half times the other."""

from __future__ import annotations

from ggrpc.devices.opencl.dense import all_dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.op import GluOp, UnaryOp
from ggrpc.ops import Node, Op
from ggrpc.ops.activations import A, B

UNARY = {
    UnaryOp.SILU,
    UnaryOp.GELU,
    UnaryOp.GELU_QUICK,
    UnaryOp.RELU,
    UnaryOp.SIGMOID,
    UnaryOp.TANH,
    UnaryOp.EXP,
    UnaryOp.NEG,
    UnaryOp.ABS,
    UnaryOp.SOFTPLUS,
}
GLU = {
    GluOp.SWIGLU: "SILU",
    GluOp.GEGLU: "GELU",
    GluOp.GEGLU_QUICK: "GELU_QUICK",
    GluOp.REGLU: "RELU",
}


def _accepts_unary(node: Node) -> bool:
    return node.params.op in UNARY and all_dense_f32(node)


def _accepts_glu(node: Node) -> bool:
    return node.params.op in GLU and all_dense_f32(node)


@kernel(Op.UNARY, accepts=_accepts_unary)
def unary(node: Node, c: Compiler) -> None:
    """Append y = f(x)."""
    x, y = node.source(A), node.tensor
    name = c.kernel("activations", "unary", FUNCTION=UnaryOp(node.params.op).name)
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb)


@kernel(Op.GLU, accepts=_accepts_glu)
def glu(node: Node, c: Compiler) -> None:
    """Append y = f(gate) up; both are halves of a row where there is one source."""
    a, y = node.source(A), node.tensor
    b = node.src[B] or a
    gate_at = up_at = 0
    if node.src[B] is None:
        gate_at, up_at = (y.ne[0], 0) if node.params.swapped else (0, y.ne[0])
    name = c.kernel("activations", "glu", FUNCTION=GLU[node.params.op])
    c.launch(name, (rows_of(y),), a, b, y, y.ne, a.nb, b.nb, y.nb, gate_at, up_at)
