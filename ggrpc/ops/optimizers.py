"""OPT_STEP_ADAMW and OPT_STEP_SGD: a training step that updates the weights in place.

The result is a view of the weights.
"""

from __future__ import annotations

from enum import IntEnum

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Rule, Source, define
from ggrpc.ops.rules import F32, like, same_shape

A, GRAD = 0, 1
M, V, ADAMW_PARAMS = 2, 3, 4
SGD_PARAMS = 2


class AdamWParam(IntEnum):
    """The elements of `adamw_params`; the last two are 1 / (1 - beta ** step)."""

    ALPHA = 0
    BETA1 = 1
    BETA2 = 2
    EPS = 3
    WD = 4
    BETA1H = 5
    BETA2H = 6


class SgdParam(IntEnum):
    """The elements of `sgd_params`."""

    ALPHA = 0
    WD = 1


def _param_count(index: int, expected: int) -> Rule:
    def rule(node: Node) -> str | None:
        count = node.source(index).nelements
        if count == expected:
            return None
        return f"the parameters have {count} elements, must have {expected}"

    return rule


def _in_place(node: Node) -> str | None:
    a, result = node.source(A), node.tensor
    same = (a.buffer, a.data, a.nb) == (result.buffer, result.data, result.nb)
    return (
        None
        if same
        else "the result must be a view of a, with the same address and strides"
    )


define(
    Contract(
        Op.OPT_STEP_ADAMW,
        (
            Source("a", F32),
            Source("grad", F32),
            Source("m", F32),
            Source("v", F32),
            Source("adamw_params", F32),
        ),
        F32,
        like(A),
        rules=(
            same_shape(A, GRAD),
            same_shape(A, M),
            same_shape(A, V),
            _param_count(ADAMW_PARAMS, len(AdamWParam)),
        ),
        placed=_in_place,
    ),
    Contract(
        Op.OPT_STEP_SGD,
        (Source("a", F32), Source("grad", F32), Source("sgd_params", F32)),
        F32,
        like(A),
        rules=(same_shape(A, GRAD), _param_count(SGD_PARAMS, len(SgdParam))),
        placed=_in_place,
    ),
)
