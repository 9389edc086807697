"""Elementwise arithmetic.

ADD, ADD1, SUB, MUL, DIV, SCALE, CLAMP, LEAKY_RELU, SQR, SQRT, LOG, SIN, COS.
"""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import RESULT, like, repeats, same_type
from ggrpc.types import FLOATS, QUANTIZED, GGMLType

A, B = 0, 1


class ScaleParams(NamedTuple):
    """x * scale + bias; clients before 2025-07 have no bias and send 0."""

    scale: float
    bias: float


class ClampParams(NamedTuple):
    """The bounds, both inclusive."""

    min: float
    max: float


class LeakyReluParams(NamedTuple):
    """The factor of values below 0."""

    negative_slope: float


def _one_number(node: Node) -> str | None:
    count = node.source(B).nelements
    return None if count == 1 else f"b has {count} elements, must have 1"


_unary = (Source("a", FLOATS),)
_binary = (Source("a", FLOATS), Source("b", FLOATS))
_broadcast = (repeats(B, A),)
_leaky = frozenset({GGMLType.F32, GGMLType.F16})

define(
    Contract(
        Op.ADD,
        (Source("a", FLOATS | QUANTIZED), Source("b", FLOATS)),
        FLOATS | QUANTIZED,
        like(A),
        rules=_broadcast,
    ),
    Contract(
        Op.ADD1,
        (Source("a", FLOATS | QUANTIZED), Source("b", FLOATS)),
        FLOATS | QUANTIZED,
        like(A),
        rules=(_one_number, same_type(RESULT, A)),
    ),
    Contract(Op.SUB, _binary, FLOATS, like(A), rules=_broadcast),
    Contract(Op.MUL, _binary, FLOATS, like(A), rules=_broadcast),
    Contract(Op.DIV, _binary, FLOATS, like(A), rules=_broadcast),
    Contract(Op.SCALE, _unary, FLOATS, like(A), ScaleParams),
    Contract(Op.CLAMP, _unary, FLOATS, like(A), ClampParams),
    Contract(
        Op.LEAKY_RELU,
        (Source("a", _leaky),),
        _leaky,
        like(A),
        LeakyReluParams,
        (same_type(RESULT, A),),
    ),
    *(
        Contract(op, _unary, FLOATS, like(A))
        for op in (Op.SQR, Op.SQRT, Op.LOG, Op.SIN, Op.COS)
    ),
)
