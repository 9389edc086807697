"""UNARY, GLU: functions of each element, and gated activations."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops.contract import Contract, Node, Source, define, flops_per_element
from ggrpc.ops.rules import like, same_shape, same_type
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS

A, B = 0, 1


class UnaryParams(NamedTuple):
    """The function, and the parameters of XIELU.

    Attributes:
        op: a UnaryOp.
    """

    op: int
    alpha_n: float
    alpha_p: float
    beta: float
    eps: float


class GluParams(NamedTuple):
    """The function, and which half of a row is the gate.

    Attributes:
        op: a GluOp.
        swapped: without `b`: 1 if the gate is the second half of a row, 0 if the first.
        alpha: the slope of SWIGLU_OAI.
        limit: the limit of SWIGLU_OAI and SWIGLU_CLAMP.
    """

    op: int
    swapped: int
    alpha: float
    limit: float


def _known_unary(node: Node) -> str | None:
    op = node.params.op
    return (
        None
        if op in (*UnaryOp,)
        else f"the unary op is {op}, must be 0 to {max(UnaryOp):d}"
    )


def _known_glu(node: Node) -> str | None:
    op = node.params.op
    return (
        None if op in (*GluOp,) else f"the GLU op is {op}, must be 0 to {max(GluOp):d}"
    )


def _glu_ne(node: Node) -> Dims:
    ne = node.source(A).ne
    return ne if node.src[B] else (ne[0] // 2, *ne[1:])


def clamps(p: GluParams) -> tuple[float, float, float]:
    """The slope, the limit, and the addend of the gated values."""
    if p.op == GluOp.SWIGLU_OAI:
        return p.alpha, p.limit, 1.0
    return 1.0, p.limit, 0.0


define(
    Contract(
        Op.UNARY, (Source("a", FLOATS),), FLOATS, like(A), UnaryParams, (_known_unary,)
    ),
    Contract(
        Op.GLU,
        (Source("a", FLOATS), Source("b", FLOATS, optional=True)),
        FLOATS,
        _glu_ne,
        GluParams,
        (_known_glu, same_shape(A, B), same_type(A, B)),
        flops=flops_per_element(2),
    ),
)
