"""RWKV_WKV6, RWKV_WKV7, GATED_LINEAR_ATTN, GATED_DELTA_NET: linear attention.

The state of each head is one matrix. The result holds the output of the heads for each
token, followed by the states, which are a source of the next call.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, NoParams, Rule, Source, define
from ggrpc.ops.rules import F32, RESULT, contiguous, equal, has_shape, multiple
from ggrpc.tensor import Dims


class Wkv6(IntEnum):
    """The sources of RWKV_WKV6."""

    K = 0
    V = 1
    R = 2
    TF = 3
    TD = 4
    STATE = 5


class Wkv7(IntEnum):
    """The sources of RWKV_WKV7."""

    R = 0
    W = 1
    K = 2
    V = 3
    A = 4
    B = 5
    STATE = 6


class Gla(IntEnum):
    """The sources of GATED_LINEAR_ATTN."""

    K = 0
    V = 1
    Q = 2
    G = 3
    STATE = 4


class DeltaNet(IntEnum):
    """The sources of GATED_DELTA_NET."""

    Q = 0
    K = 1
    V = 2
    G = 3
    BETA = 4
    STATE = 5


class GlaParams(NamedTuple):
    """The factor of the queries."""

    scale: float


class DeltaNetParams(NamedTuple):
    """The number of states at the end of the result.

    Attributes:
        k: the number of last tokens whose states are returned, the latest first. 0
            counts as 1: older clients send 0.
    """

    k: int

    @property
    def slots(self) -> int:
        """The number of states."""
        return self.k or 1


def _names(sources: type[IntEnum]) -> tuple[Source, ...]:
    return tuple(Source(source.name.lower(), F32) for source in sources)


def _tokens_and_states(node: Node, k: int, state: int) -> Dims:
    size, heads, tokens, _ = node.source(k).ne
    return size * heads, tokens + size * node.source(state).ne[1], 1, 1


def _state_fits(k: int, state: int) -> Rule:
    """The rule that the state has a square matrix for each head and sequence."""

    def rule(node: Node) -> str | None:
        size, heads, tokens, _ = node.source(k).ne
        tensor = node.source(state)
        seqs = tensor.ne[1]
        if tensor.nelements != size * size * heads * seqs:
            expected = size * size * heads * seqs
            return f"state has {tensor.nelements} elements, must have {expected}"
        if tokens % seqs if seqs else tokens:
            return f"has {tokens} tokens, must be a multiple of {seqs} sequences"
        return None

    return rule


def _bonus_fits(node: Node) -> str | None:
    size, heads, *_ = node.source(Wkv6.K).ne
    count = node.source(Wkv6.TF).nelements
    if count == size * heads:
        return None
    return f"tf has {count} elements, must have {size * heads}"


def _rules(sources: type[IntEnum], k: int, *others: int) -> tuple[Rule, ...]:
    """The rules that all sources except the state and `others` have the shape of k."""
    state = len(sources) - 1
    alike = [s for s in sources if s != state and s not in others]
    return (
        *(has_shape(s, lambda node: (*node.source(k).ne[:3], 1)) for s in alike),
        contiguous(state),
        contiguous(RESULT),
        _state_fits(k, state),
    )


def _delta_net_ne(node: Node) -> Dims:
    size, heads, tokens, seqs = node.source(DeltaNet.V).ne
    states = node.params.slots * size * seqs
    return size * heads, tokens * seqs + states, 1, 1


def _delta_net_gates(node: Node) -> str | None:
    size, *rest = node.source(DeltaNet.V).ne
    g, beta = node.source(DeltaNet.G).ne, node.source(DeltaNet.BETA).ne
    if g not in ((1, *rest), (size, *rest)):
        return f"g's ne is {list(g)}, must be {[1, *rest]} or {[size, *rest]}"
    if beta == (1, *rest):
        return None
    return f"beta's ne is {list(beta)}, must be {[1, *rest]}"


def _delta_net_state(node: Node) -> str | None:
    size, heads, _, seqs = node.source(DeltaNet.V).ne
    count = node.source(DeltaNet.STATE).nelements
    if node.params.k < 0:
        return f"K is {node.params.k}, must be >= 0"
    expected = size * size * heads * seqs
    if count == expected:
        return None
    return f"state has {count} elements, must have {expected}"


def _flops(v: int) -> Callable[[Node], int]:
    """The state, a column for each element of v, decays, is updated and is read."""
    return lambda node: 5 * node.source(v).nelements * node.source(v).ne[0]


define(
    Contract(
        Op.RWKV_WKV6,
        _names(Wkv6),
        F32,
        lambda node: _tokens_and_states(node, Wkv6.K, Wkv6.STATE),
        NoParams,
        (*_rules(Wkv6, Wkv6.K, Wkv6.TF), contiguous(Wkv6.TF), _bonus_fits),
        flops=_flops(Wkv6.V),
    ),
    Contract(
        Op.RWKV_WKV7,
        _names(Wkv7),
        F32,
        lambda node: _tokens_and_states(node, Wkv7.K, Wkv7.STATE),
        NoParams,
        _rules(Wkv7, Wkv7.K),
        flops=_flops(Wkv7.V),
    ),
    Contract(
        Op.GATED_LINEAR_ATTN,
        _names(Gla),
        F32,
        lambda node: _tokens_and_states(node, Gla.K, Gla.STATE),
        GlaParams,
        _rules(Gla, Gla.K),
        flops=_flops(Gla.V),
    ),
    Contract(
        Op.GATED_DELTA_NET,
        _names(DeltaNet),
        F32,
        _delta_net_ne,
        DeltaNetParams,
        (
            equal((DeltaNet.Q, 0), (DeltaNet.V, 0)),
            equal((DeltaNet.K, 0), (DeltaNet.V, 0)),
            multiple((DeltaNet.V, 1), (DeltaNet.Q, 1)),
            multiple((DeltaNet.V, 1), (DeltaNet.K, 1)),
            equal((DeltaNet.Q, 2), (DeltaNet.V, 2)),
            equal((DeltaNet.K, 2), (DeltaNet.V, 2)),
            multiple((DeltaNet.V, 3), (DeltaNet.Q, 3)),
            multiple((DeltaNet.V, 3), (DeltaNet.K, 3)),
            _delta_net_gates,
            contiguous(DeltaNet.STATE),
            contiguous(RESULT),
            _delta_net_state,
        ),
        flops=_flops(DeltaNet.V),
    ),
)
