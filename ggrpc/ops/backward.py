"""The backward pass of other ops (their gradients), and the loss, for training.

SILU_BACK, RMS_NORM_BACK, SOFT_MAX_BACK, GET_ROWS_BACK, CROSS_ENTROPY_LOSS,
CROSS_ENTROPY_LOSS_BACK, FLASH_ATTN_BACK.

An op called _BACK computes the gradient of a source from the gradient of the result.
The latter is its first source, except in FLASH_ATTN_BACK, where it is the last.
ROPE_BACK is in `rope.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.attention import SoftMaxParams
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.norms import NormParams
from ggrpc.ops.rules import (
    F32,
    I32,
    RESULT,
    at_least,
    equal,
    has_shape,
    like,
    multiple,
    same_shape,
    same_type,
)
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

GRAD, A = 0, 1
ROW_IDS = 1  # of GET_ROWS_BACK
LOGITS, LABELS = 0, 1  # of CROSS_ENTROPY_LOSS
BACK_LOGITS, BACK_LABELS = 1, 2  # of CROSS_ENTROPY_LOSS_BACK

Q, K, V, RESULT_GRAD = range(4)  # of FLASH_ATTN_BACK

HALVES = frozenset({GGMLType.F32, GGMLType.F16})
SCALAR = (1, 1, 1, 1)


class FlashAttnBackParams(NamedTuple):
    """Whether attention is causal.

    Attributes:
        masked: 1 for a causal mask, in which the last key belongs to the last token;
            0 for no mask.
    """

    masked: int


def gradient_offsets(node: Node) -> tuple[int, int, int, int]:
    """The offsets of the gradients of q, k and v in the result of FLASH_ATTN_BACK.

    Returns:
        Three offsets and the end, in elements. Each gradient is padded to
        GGML_MEM_ALIGN, 16 bytes.
    """
    ends = [0]
    for at in (Q, K, V):
        ends.append(ends[-1] + -(-node.source(at).nelements // 4) * 4)
    return ends[0], ends[1], ends[2], ends[3]


def _masked(node: Node) -> str | None:
    masked, q, k = node.params.masked, node.source(Q).ne, node.source(K).ne
    if masked not in (0, 1):
        return f"masked is {masked}, must be 0 or 1"
    return (
        None if k[1] >= q[1] else f"k.ne[1] is {k[1]}, must be at least q.ne[1], {q[1]}"
    )


def _no_bias(node: Node) -> str | None:
    """Source: ggml_compute_forward_soft_max_ext_back_f32, which asserts it."""
    max_bias = node.params.max_bias
    return f"max_bias is {max_bias}, must be 0" if max_bias else None


def _rows_ne(node: Node) -> Dims:
    return node.source(GRAD).ne[0], node.tensor.ne[1], 1, 1


def _transposed(ne: Dims) -> Dims:
    return ne[1], ne[0], ne[2], ne[3]


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
            has_shape(GRAD, lambda n: (*n.source(GRAD).ne[:2], 1, 1)),
            has_shape(ROW_IDS, lambda n: (n.source(ROW_IDS).ne[0], 1, 1, 1)),
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
        rules=(has_shape(GRAD, lambda n: SCALAR), same_shape(BACK_LOGITS, BACK_LABELS)),
    ),
    Contract(
        Op.FLASH_ATTN_BACK,
        (Source("q", F32), Source("k", F32), Source("v", F32), Source("d", F32)),
        F32,
        lambda n: (gradient_offsets(n)[3], 1, 1, 1),
        FlashAttnBackParams,
        (
            equal((K, 0), (Q, 0)),
            multiple((Q, 2), (K, 2)),
            equal((K, 3), (Q, 3)),
            has_shape(V, lambda n: _transposed(n.source(K).ne)),
            same_shape(RESULT_GRAD, Q),
            _masked,
        ),
    ),
)
