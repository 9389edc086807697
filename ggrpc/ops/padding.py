"""PAD, PAD_REFLECT_1D: a border of zeros, or of what lies across or beside it."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32
from ggrpc.tensor import Dims

A = 0


class PadParams(NamedTuple):
    """How many elements go in front (lp) and behind (rp) in each dimension.

    All are 0 before 2025-09, when whatever the result has more went behind.

    Attributes:
        circular: whether the border repeats the elements; else it is zeros.
    """

    lp0: int
    rp0: int
    lp1: int
    rp1: int
    lp2: int
    rp2: int
    lp3: int
    rp3: int
    circular: int

    @property
    def lp(self) -> Dims:
        """What goes in front in each dimension."""
        return self.lp0, self.lp1, self.lp2, self.lp3

    @property
    def rp(self) -> Dims:
        """What goes behind in each dimension."""
        return self.rp0, self.rp1, self.rp2, self.rp3


class PadReflectParams(NamedTuple):
    """How many elements go in front of a row, and behind it."""

    p0: int
    p1: int


def _pad_ne(node: Node) -> Dims:
    a, p = node.source(A).ne, node.params
    if not any(p) and all(n >= m for n, m in zip(node.tensor.ne, a, strict=True)):
        return node.tensor.ne
    n0, n1, n2, n3 = (n + lp + rp for n, lp, rp in zip(a, p.lp, p.rp, strict=True))
    return n0, n1, n2, n3


def _has_what_it_repeats(node: Node) -> str | None:
    if node.params.circular and 0 in node.source(A).ne:
        return "a is empty, there is nothing to repeat"
    return None


def _reflected_ne(node: Node) -> Dims:
    a, p = node.source(A).ne, node.params
    return a[0] + p.p0 + p.p1, *a[1:]


def _shorter_than_row(node: Node) -> str | None:
    row = node.source(A).ne[0]
    if all(0 <= p < row for p in node.params):
        return None
    return f"p0 and p1 are {list(node.params)}, must be less than the row's {row}"


_sources = (Source("a", F32),)

define(
    Contract(Op.PAD, _sources, F32, _pad_ne, PadParams, (_has_what_it_repeats,)),
    Contract(
        Op.PAD_REFLECT_1D,
        _sources,
        F32,
        _reflected_ne,
        PadReflectParams,
        (_shorter_than_row,),
    ),
)
