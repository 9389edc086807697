"""NORM, RMS_NORM, L2_NORM: rows brought to a common size."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, like

A = 0


class NormParams(NamedTuple):
    """What keeps the divisor off zero."""

    eps: float


def _eps(node: Node) -> str | None:
    return None if node.params.eps >= 0 else f"eps is {node.params.eps}, must be >= 0"


define(
    *(
        Contract(op, (Source("a", F32),), F32, like(A), NormParams, (_eps,))
        for op in (Op.NORM, Op.RMS_NORM, Op.L2_NORM)
    )
)
