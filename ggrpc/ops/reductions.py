"""SUM_ROWS, ARGMAX, ARGSORT: each row becomes a number, an index or an order."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, I32, like
from ggrpc.tensor import Dims

A = 0


class SortOrder(IntEnum):
    """Source: `enum ggml_sort_order`."""

    ASC = 0
    DESC = 1


class ArgsortParams(NamedTuple):
    """A SortOrder."""

    order: int


def _one_a_row(node: Node) -> Dims:
    return 1, *node.source(A).ne[1:]


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


_sources = (Source("a", F32),)

define(
    Contract(Op.SUM_ROWS, _sources, F32, _one_a_row),
    Contract(Op.ARGMAX, _sources, I32, _rows, rules=(_matrix, _not_empty)),
    Contract(Op.ARGSORT, _sources, I32, like(A), ArgsortParams, (_order,)),
)
