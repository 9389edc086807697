"""SSM_CONV and SSM_SCAN: the recurrent state space ops of Mamba."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Rule, Source, define
from ggrpc.ops.rules import (
    F32,
    I32,
    MAX_TAPS,
    contiguous,
    equal,
    has_shape,
    multiple,
    same_shape,
)
from ggrpc.tensor import Dims, Tensor

SX, C = 0, 1
S, X, DT, SCAN_A, SCAN_B, SCAN_C, IDS = range(7)


class SsmScanParams(NamedTuple):
    """The number of states at the end of the result.

    Attributes:
        k: the number of last tokens whose states are returned, the latest first. 0
            counts as 1: clients before 2026 send 0.
    """

    k: int

    @property
    def slots(self) -> int:
        """The number of states."""
        return self.k or 1


def _conv_ne(node: Node) -> Dims:
    sx, c = node.source(SX).ne, node.source(C).ne
    return sx[1], sx[0] - c[0] + 1, sx[2], 1


def _enough_columns(node: Node) -> str | None:
    sx, c = node.source(SX).ne, node.source(C).ne
    most = min(sx[0] + 1, MAX_TAPS)
    return None if 0 < c[0] <= most else f"c.ne[0] is {c[0]}, must be 1 to {most}"


def with_heads(node: Node) -> Node:
    """Convert an SSM_SCAN to the form that clients have sent since 2025-07.

    Older clients send neither heads nor ids: a channel is a head of one row, and the
    n-th sequence has the n-th state.
    """
    if node.src[IDS] is not None:
        return node
    src = list(node.src)
    for at, axis in {S: 1, X: 0, SCAN_B: 1, SCAN_C: 1}.items():
        src[at] = _with_axis(node.source(at), axis)
    return node._replace(src=tuple(src))


def _with_axis(tensor: Tensor, axis: int) -> Tensor:
    """The tensor with an additional axis of one element."""
    ne, nb = list(tensor.ne), list(tensor.nb)
    ne.insert(axis, 1)
    nb.insert(axis, nb[axis])
    return tensor._replace(
        ne=(ne[0], ne[1], ne[2], ne[3]), nb=(nb[0], nb[1], nb[2], nb[3])
    )


def _with_heads_first(rule: Rule) -> Rule:
    return lambda node: rule(with_heads(node))


def _ids_or_no_heads(node: Node) -> str | None:
    last = [node.source(at).ne[3] for at in (S, X, SCAN_B, SCAN_C)]
    if node.src[IDS] is not None or last == [1] * 4:
        return None
    return f"source ids is missing, and ne[3] of s, x, B and C is {last}, must be 1"


def _state_count(node: Node) -> str | None:
    states, seqs = node.source(S).ne[3], node.source(X).ne[3]
    if node.src[IDS] is not None or states == seqs:
        return None
    return f"s has {states} states, must have {seqs}, one for each sequence"


def _scan_ne(node: Node) -> Dims:
    node = with_heads(node)
    s, seqs = node.source(S), node.source(X).ne[3]
    state = s.ne[0] * s.ne[1] * s.ne[2]
    return node.source(X).nelements + node.params.slots * state * seqs, 1, 1, 1


def _decay(node: Node) -> str | None:
    a, k = node.source(SCAN_A).ne, node.params.k
    if k < 0 or (k > 1 and a[0] != 1):
        return (
            f"K is {k} and A.ne[0] is {a[0]}: K must be >= 0, and <= 1 if A.ne[0] > 1"
        )
    if a[0] not in (1, node.source(S).ne[0]):
        return f"A.ne[0] is {a[0]}, must be 1 or s.ne[0], {node.source(S).ne[0]}"
    return None


_SCAN_RULES: tuple[Rule, ...] = (
    _state_count,
    equal((S, 1), (X, 0)),
    equal((S, 2), (X, 1)),
    has_shape(DT, lambda n: (*n.source(X).ne[1:], 1)),
    has_shape(SCAN_A, lambda n: (n.source(SCAN_A).ne[0], n.source(S).ne[2], 1, 1)),
    _decay,
    equal((SCAN_B, 0), (S, 0)),
    equal((SCAN_B, 2), (X, 2)),
    equal((SCAN_B, 3), (X, 3)),
    same_shape(SCAN_C, SCAN_B),
    multiple((X, 1), (SCAN_B, 1)),
    has_shape(IDS, lambda n: (n.source(X).ne[3], 1, 1, 1)),
    contiguous(S),
)


def _conv_flops(node: Node) -> int:
    return 2 * node.tensor.nelements * node.source(C).ne[0]


def _scan_flops(node: Node) -> int:
    """The state decays, is updated and is read for each element of x."""
    return 5 * node.source(X).nelements * node.source(S).ne[0]


define(
    Contract(
        Op.SSM_CONV,
        (Source("sx", F32), Source("c", F32)),
        F32,
        _conv_ne,
        rules=(
            has_shape(SX, lambda n: (*n.source(SX).ne[:3], 1)),
            has_shape(C, lambda n: (n.source(C).ne[0], n.source(SX).ne[1], 1, 1)),
            _enough_columns,
        ),
        flops=_conv_flops,
    ),
    Contract(
        Op.SSM_SCAN,
        (
            Source("s", F32),
            Source("x", F32),
            Source("dt", F32),
            Source("A", F32),
            Source("B", F32),
            Source("C", F32),
            Source("ids", I32, index=True, optional=True),  # absent before 2025-07
        ),
        F32,
        _scan_ne,
        SsmScanParams,
        (_ids_or_no_heads, *map(_with_heads_first, _SCAN_RULES)),
        flops=_scan_flops,
    ),
)
