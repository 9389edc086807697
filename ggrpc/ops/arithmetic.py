"""ADD, SUB, MUL, DIV, SCALE, CLAMP, SQR, SQRT: the same sum for each element."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Source, define
from ggrpc.ops.rules import like, repeats
from ggrpc.types import FLOATS, QUANTIZED

A, B = 0, 1


class ScaleParams(NamedTuple):
    """x * scale + bias; versions before 2025-07 leave the bias 0."""

    scale: float
    bias: float


class ClampParams(NamedTuple):
    """The bounds, both included."""

    min: float
    max: float


_unary = (Source("a", FLOATS),)
_binary = (Source("a", FLOATS), Source("b", FLOATS))
_broadcast = (repeats(B, A),)

define(
    Contract(
        Op.ADD,
        (Source("a", FLOATS | QUANTIZED), Source("b", FLOATS)),
        FLOATS | QUANTIZED,
        like(A),
        rules=_broadcast,
    ),
    Contract(Op.SUB, _binary, FLOATS, like(A), rules=_broadcast),
    Contract(Op.MUL, _binary, FLOATS, like(A), rules=_broadcast),
    Contract(Op.DIV, _binary, FLOATS, like(A), rules=_broadcast),
    Contract(Op.SCALE, _unary, FLOATS, like(A), ScaleParams),
    Contract(Op.CLAMP, _unary, FLOATS, like(A), ClampParams),
    Contract(Op.SQR, _unary, FLOATS, like(A)),
    Contract(Op.SQRT, _unary, FLOATS, like(A)),
)
