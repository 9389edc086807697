"""SUM, SUM_ROWS, MEAN, CUMSUM, COUNT_EQUAL, REPEAT_BACK, ARGMAX, ARGSORT, TOP_K.

Rows, or all of a tensor, become a number, an index, an order or running sums.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, I32, RESULT, like, own, repeats, same_shape, same_type
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, GGMLType

A, B = 0, 1


class SortOrder(IntEnum):
    """Source: `enum ggml_sort_order`."""

    ASC = 0
    DESC = 1


class ArgsortParams(NamedTuple):
    """A SortOrder."""

    order: int


def _one_a_row(node: Node) -> Dims:
    return 1, *node.source(A).ne[1:]


def _one(node: Node) -> Dims:
    return 1, 1, 1, 1


def _some_a_row(node: Node) -> Dims:
    return node.tensor.ne[0], *node.source(A).ne[1:]


def _rows(node: Node) -> Dims:
    return node.source(A).ne[1], 1, 1, 1


def _matrix(node: Node) -> str | None:
    return None if node.source(A).ne[2:] == (1, 1) else "a is no matrix"


def _not_empty(node: Node) -> str | None:
    a = node.source(A)
    return "a has empty rows" if a.nrows and not a.ne[0] else None


def _order(node: Node) -> str | None:
    order = node.params.order
    return None if order in (*SortOrder,) else f"there is no sort order {order}"


def _no_overlap(node: Node) -> str | None:
    a = node.source(A)
    return "a's elements overlap" if a.nb[0] < a.type.type_size else None


def _enough(node: Node) -> str | None:
    k, n = node.tensor.ne[0], node.source(A).ne[0]
    return None if k <= n else f"there are no {k} largest among {n}"


_sources = (Source("a", F32),)

define(
    Contract(
        Op.SUM,
        (Source("a", FLOATS),),
        FLOATS,
        _one,
        rules=(same_type(A, RESULT), _no_overlap),
    ),
    Contract(Op.SUM_ROWS, _sources, F32, _one_a_row),
    Contract(Op.MEAN, _sources, F32, _one_a_row),
    Contract(Op.CUMSUM, _sources, F32, like(A)),
    Contract(
        Op.COUNT_EQUAL,
        (Source("a", I32), Source("b", I32)),
        frozenset({GGMLType.I64}),
        _one,
        rules=(same_shape(A, B),),
    ),
    Contract(Op.REPEAT_BACK, _sources, F32, own, rules=(repeats(RESULT, A),)),
    Contract(Op.ARGMAX, _sources, I32, _rows, rules=(_matrix, _not_empty)),
    Contract(Op.ARGSORT, _sources, I32, like(A), ArgsortParams, (_order,)),
    Contract(Op.TOP_K, _sources, I32, _some_a_row, rules=(_enough,)),
)
