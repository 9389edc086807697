"""DIAG, DIAG_MASK_INF, DIAG_MASK_ZERO, TRI, SOLVE_TRI: diagonals and triangles."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, equal, like
from ggrpc.tensor import Dims

A, B = 0, 1


class Triangle(IntEnum):
    """The part that TRI keeps. Source: `enum ggml_tri_type`."""

    UPPER_DIAG = 0
    UPPER = 1
    LOWER_DIAG = 2
    LOWER = 3


# The part that TRI clears: its first diagonal, and whether it lies above.
CLEARED = {
    Triangle.UPPER_DIAG: (-1, False),
    Triangle.UPPER: (0, False),
    Triangle.LOWER_DIAG: (1, True),
    Triangle.LOWER: (0, True),
}


class DiagMaskParams(NamedTuple):
    """The shift of the diagonal to the right."""

    n_past: int


class TriParams(NamedTuple):
    """The part to keep, a Triangle."""

    type: int


def _diag_ne(node: Node) -> Dims:
    ne = node.source(A).ne
    return ne[0], ne[0], ne[2], ne[3]


def _one_row(node: Node) -> str | None:
    rows = node.source(A).ne[1]
    return None if rows == 1 else f"a.ne[1] is {rows}, must be 1"


def _n_past(node: Node) -> str | None:
    n_past = node.params.n_past
    return None if n_past >= 0 else f"n_past is {n_past}, must be >= 0"


def _known_triangle(node: Node) -> str | None:
    type = node.params.type
    return (
        None
        if type in (*Triangle,)
        else f"type is {type}, must be 0 to {max(Triangle):d}"
    )


def _square(node: Node) -> str | None:
    ne = node.source(A).ne
    return None if ne[0] == ne[1] else f"a's ne is {list(ne)}, must be square"


_sources = (Source("a", F32),)

define(
    Contract(Op.DIAG, _sources, F32, _diag_ne, rules=(_one_row,)),
    Contract(Op.DIAG_MASK_INF, _sources, F32, like(A), DiagMaskParams, (_n_past,)),
    Contract(Op.DIAG_MASK_ZERO, _sources, F32, like(A), DiagMaskParams, (_n_past,)),
    Contract(Op.TRI, _sources, F32, like(A), TriParams, (_known_triangle, _square)),
    Contract(
        Op.SOLVE_TRI,
        (*_sources, Source("b", F32)),
        F32,
        like(B),
        rules=(
            _square,
            equal((A, 1), (B, 1)),
            equal((A, 2), (B, 2)),
            equal((A, 3), (B, 3)),
        ),
    ),
)
