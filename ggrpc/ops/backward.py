"""The ops of training: SILU_BACK, RMS_NORM_BACK, SOFT_MAX_BACK, GET_ROWS_BACK,
CROSS_ENTROPY_LOSS, CROSS_ENTROPY_LOSS_BACK.

Those called _BACK turn the gradient of an op's result into that of its source; the
gradient is their first source. ROPE_BACK is with ROPE.
"""

from __future__ import annotations

from ggrpc.op import Op
from ggrpc.ops.attention import SoftMaxParams
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.norms import NormParams
from ggrpc.ops.rules import (
    F32,
    I32,
    RESULT,
    at_least,
    like,
    same_shape,
    same_type,
    shaped,
)
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

GRAD, A = 0, 1
ROW_IDS = 1  # of GET_ROWS_BACK
LOGITS, LABELS = 0, 1  # of CROSS_ENTROPY_LOSS
BACK_LOGITS, BACK_LABELS = 1, 2  # of CROSS_ENTROPY_LOSS_BACK

HALVES = frozenset({GGMLType.F32, GGMLType.F16})
SCALAR = (1, 1, 1, 1)


def _no_bias(node: Node) -> str | None:
    """Source: ggml_compute_forward_soft_max_ext_back_f32, which asserts it."""
    max_bias = node.params.max_bias
    return f"max_bias is {max_bias}, must be 0" if max_bias else None


def _rows_ne(node: Node) -> Dims:
    return node.source(GRAD).ne[0], node.tensor.ne[1], 1, 1


_grad = Source("a", F32)
_forward = Source("b", F32)

define(
    Contract(
        Op.SILU_BACK,
        (Source("a", HALVES), Source("b", HALVES)),
        HALVES,
        like(GRAD),
        rules=(same_shape(GRAD, A), same_type(GRAD, A), same_type(GRAD, RESULT)),
    ),
    Contract(
        Op.RMS_NORM_BACK,
        (_grad, _forward),
        F32,
        like(GRAD),
        NormParams,
        (same_shape(GRAD, A),),
    ),
    Contract(
        Op.SOFT_MAX_BACK,
        (_grad, _forward),
        F32,
        like(GRAD),
        SoftMaxParams,
        (same_shape(GRAD, A), _no_bias),
    ),
    Contract(
        Op.GET_ROWS_BACK,
        (Source("a", HALVES), Source("b", I32, index=True)),
        F32,
        _rows_ne,
        rules=(
            shaped(GRAD, lambda n: (*n.source(GRAD).ne[:2], 1, 1)),
            shaped(ROW_IDS, lambda n: (n.source(ROW_IDS).ne[0], 1, 1, 1)),
            at_least((GRAD, 1), (ROW_IDS, 0)),
        ),
    ),
    Contract(
        Op.CROSS_ENTROPY_LOSS,
        (_grad, _forward),
        F32,
        lambda n: SCALAR,
        rules=(same_shape(LOGITS, LABELS),),
    ),
    Contract(
        Op.CROSS_ENTROPY_LOSS_BACK,
        (_grad, _forward, Source("c", F32)),
        F32,
        like(BACK_LOGITS),
        rules=(shaped(GRAD, lambda n: SCALAR), same_shape(BACK_LOGITS, BACK_LABELS)),
    ),
)
