"""PAD, PAD_REFLECT_1D: a border of zeros, of wrapped or of mirrored elements."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32
from ggrpc.tensor import Dims

A = 0


class PadParams(NamedTuple):
    """The elements added in front (lp) and behind (rp) in each dimension.

    Clients before 2025-09 send zeros: all elements are added behind.

    Attributes:
        circular: 1 if the border wraps around, 0 if it is zeros.
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
        """The elements in front, in each dimension."""
        return self.lp0, self.lp1, self.lp2, self.lp3

    @property
    def rp(self) -> Dims:
        """The elements behind, in each dimension."""
        return self.rp0, self.rp1, self.rp2, self.rp3


class PadReflectParams(NamedTuple):
    """The elements added in front of a row, and behind it."""

    p0: int
    p1: int


def _pad_ne(node: Node) -> Dims:
    a, p = node.source(A).ne, node.params
    if not any(p) and all(n >= m for n, m in zip(node.tensor.ne, a, strict=True)):
        return node.tensor.ne
    n0, n1, n2, n3 = (n + lp + rp for n, lp, rp in zip(a, p.lp, p.rp, strict=True))
    return n0, n1, n2, n3


def _can_wrap(node: Node) -> str | None:
    if node.params.circular and 0 in node.source(A).ne:
        return f"a's ne is {list(node.source(A).ne)}, must not be empty to wrap around"
    return None


def _reflected_ne(node: Node) -> Dims:
    a, p = node.source(A).ne, node.params
    return a[0] + p.p0 + p.p1, *a[1:]


def _shorter_than_row(node: Node) -> str | None:
    row = node.source(A).ne[0]
    if all(0 <= p < row for p in node.params):
        return None
    return f"p0 and p1 are {list(node.params)}, must be 0 to a.ne[0] - 1, {row - 1}"


_sources = (Source("a", F32),)

define(
    Contract(Op.PAD, _sources, F32, _pad_ne, PadParams, (_can_wrap,)),
    Contract(
        Op.PAD_REFLECT_1D,
        _sources,
        F32,
        _reflected_ne,
        PadReflectParams,
        (_shorter_than_row,),
    ),
)
