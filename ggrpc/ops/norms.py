"""NORM, RMS_NORM, L2_NORM, GROUP_NORM: normalization of rows or groups."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define, flops_per_element
from ggrpc.ops.rules import F32, like

A = 0


class NormParams(NamedTuple):
    """The addend or lower bound that keeps the divisor above zero."""

    eps: float


class GroupNormParams(NamedTuple):
    """The number of groups of channels (dimension 2), and the addend of the divisor."""

    n_groups: int
    eps: float

    def channels(self, n_channels: int) -> int:
        """The channels of a group; the last group may have fewer."""
        return -(-n_channels // self.n_groups)


def _groups(node: Node) -> str | None:
    n_groups = node.params.n_groups
    return None if n_groups > 0 else f"n_groups is {n_groups}, must be > 0"


def _eps(node: Node) -> str | None:
    return None if node.params.eps >= 0 else f"eps is {node.params.eps}, must be >= 0"


define(
    *(
        Contract(
            op,
            (Source("a", F32),),
            F32,
            like(A),
            NormParams,
            (_eps,),
            flops=flops_per_element(4),
        )
        for op in (Op.NORM, Op.RMS_NORM, Op.L2_NORM)
    ),
    Contract(
        Op.GROUP_NORM,
        (Source("a", F32),),
        F32,
        like(A),
        GroupNormParams,
        (_groups, _eps),
        flops=flops_per_element(5),
    ),
)
