"""Reductions of rows or of whole tensors, and the sorting of rows.

SUM, SUM_ROWS, MEAN, CUMSUM, COUNT_EQUAL, REPEAT_BACK, ARGMAX, ARGSORT, TOP_K.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import (
    F32,
    I32,
    RESULT,
    any_shape,
    like,
    repeats,
    same_shape,
    same_type,
)
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, GGMLType

A, B = 0, 1


class SortOrder(IntEnum):
    """The order of a sort. Source: `enum ggml_sort_order`."""

    ASC = 0
    DESC = 1


class ArgsortParams(NamedTuple):
    """The order, a SortOrder."""

    order: int


def _one_per_row(node: Node) -> Dims:
    return 1, *node.source(A).ne[1:]


def _scalar(node: Node) -> Dims:
    return 1, 1, 1, 1


def _k_per_row(node: Node) -> Dims:
    return node.tensor.ne[0], *node.source(A).ne[1:]


def _rows(node: Node) -> Dims:
    return node.source(A).ne[1], 1, 1, 1


def _matrix(node: Node) -> str | None:
    ne = node.source(A).ne
    return None if ne[2:] == (1, 1) else f"a's ne is {list(ne)}, must be a matrix"


def _not_empty(node: Node) -> str | None:
    a = node.source(A)
    if a.nrows and not a.ne[0]:
        return f"a's ne is {list(a.ne)}, must not have empty rows"
    return None


def _order(node: Node) -> str | None:
    order = node.params.order
    return None if order in (*SortOrder,) else f"order is {order}, must be 0 or 1"


def _no_overlap(node: Node) -> str | None:
    a = node.source(A)
    size = a.type.type_size
    return f"a.nb[0] is {a.nb[0]}, must be >= {size}" if a.nb[0] < size else None


def _k_fits(node: Node) -> str | None:
    k, n = node.tensor.ne[0], node.source(A).ne[0]
    return None if k <= n else f"k is {k}, must be at most a.ne[0], {n}"


_sources = (Source("a", F32),)

define(
    Contract(
        Op.SUM,
        (Source("a", FLOATS),),
        FLOATS,
        _scalar,
        rules=(same_type(A, RESULT), _no_overlap),
    ),
    Contract(Op.SUM_ROWS, _sources, F32, _one_per_row),
    Contract(Op.MEAN, _sources, F32, _one_per_row),
    Contract(Op.CUMSUM, _sources, F32, like(A)),
    Contract(
        Op.COUNT_EQUAL,
        (Source("a", I32), Source("b", I32)),
        frozenset({GGMLType.I64}),
        _scalar,
        rules=(same_shape(A, B),),
    ),
    Contract(Op.REPEAT_BACK, _sources, F32, any_shape, rules=(repeats(RESULT, A),)),
    Contract(Op.ARGMAX, _sources, I32, _rows, rules=(_matrix, _not_empty)),
    Contract(Op.ARGSORT, _sources, I32, like(A), ArgsortParams, (_order,)),
    Contract(Op.TOP_K, _sources, I32, _k_per_row, rules=(_k_fits,)),
)
