"""OPT_STEP_ADAMW and OPT_STEP_SGD: a step of training, made on the weights in place.

The result is a view of the weights; that is what they are written through.
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
    """What ADAMW_PARAMS holds; the last two are 1 / (1 - beta ** step)."""

    ALPHA = 0
    BETA1 = 1
    BETA2 = 2
    EPS = 3
    WD = 4
    BETA1H = 5
    BETA2H = 6


class SgdParam(IntEnum):
    """What SGD_PARAMS holds."""

    ALPHA = 0
    WD = 1


def _counts(at: int, expected: int) -> Rule:
    def rule(node: Node) -> str | None:
        count = node.source(at).nelements
        return None if count == expected else f"takes {expected} numbers, not {count}"

    return rule


def _in_place(node: Node) -> str | None:
    a, result = node.source(A), node.tensor
    same = (a.buffer, a.data, a.nb) == (result.buffer, result.data, result.nb)
    return None if same else "the result must be a view of a"


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
            _counts(ADAMW_PARAMS, len(AdamWParam)),
        ),
        placed=_in_place,
    ),
    Contract(
        Op.OPT_STEP_SGD,
        (Source("a", F32), Source("grad", F32), Source("sgd_params", F32)),
        F32,
        like(A),
        rules=(same_shape(A, GRAD), _counts(SGD_PARAMS, len(SgdParam))),
        placed=_in_place,
    ),
)
