"""SOFT_MAX and FLASH_ATTN_EXT: attention weights, and whole attention."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define, flops_per_element
from ggrpc.ops.rules import F32, at_least, equal, like, multiple, not_empty
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, QUANTIZED, GGMLType

A, SOFT_MAX_MASK, SOFT_MAX_SINKS = 0, 1, 2
Q, K, V, MASK, SINKS = 0, 1, 2, 3, 4

MASKS = frozenset({GGMLType.F16, GGMLType.F32})


class SoftMaxParams(NamedTuple):
    """softmax(a * scale + slope * mask).

    Attributes:
        max_bias: ALiBi's, which gives each head its slope; 0 for a slope of 1.
    """

    scale: float
    max_bias: float


class FlashAttnParams(NamedTuple):
    """softmax(softcap(k q * scale) + slope * mask) v.

    Attributes:
        max_bias: as for SOFT_MAX.
        logit_softcap: c in c * tanh(x / c); 0 for no cap.
        prec: 10 for float32 accumulation.
    """

    scale: float
    max_bias: float
    logit_softcap: float
    prec: int


def _flash_attn_ne(node: Node) -> Dims:
    q, v = node.source(Q).ne, node.source(V).ne
    return v[0], q[2], q[1], q[3]


_kv = FLOATS | QUANTIZED


def _flash_attn_flops(node: Node) -> int:
    """Two products: queries with keys, and weights with values."""
    k, v = node.source(K), node.source(V)
    return 2 * node.source(Q).nrows * k.ne[1] * (k.ne[0] + v.ne[0])


def alibi_slopes(heads: int, max_bias: float) -> NDArray[np.float32]:
    """ALiBi's factor of the mask for each head, of shape (heads, 1, 1).

    Source: ggml_compute_forward_soft_max_f32; "Train Short, Test Long", arXiv
    2108.12409.
    """
    n = 1 << (heads.bit_length() - 1)
    head = np.arange(heads)
    exponents = np.where(head < n, head + 1.0, head - n + 0.5)
    slopes: NDArray[np.float32] = np.exp2(-max_bias / n * exponents).astype(np.float32)
    return slopes[:, None, None]


define(
    Contract(
        Op.SOFT_MAX,
        (
            Source("a", F32),
            Source("mask", MASKS, optional=True),
            Source("sinks", F32, optional=True),
        ),
        F32,
        like(A),
        SoftMaxParams,
        (
            equal((SOFT_MAX_MASK, 0), (A, 0)),
            at_least((SOFT_MAX_MASK, 1), (A, 1)),
            multiple((A, 2), (SOFT_MAX_MASK, 2)),
            multiple((A, 3), (SOFT_MAX_MASK, 3)),
            equal((SOFT_MAX_SINKS, 0), (A, 2)),
            not_empty(SOFT_MAX_SINKS),
        ),
        flops=flops_per_element(4),
    ),
    Contract(
        Op.FLASH_ATTN_EXT,
        (
            Source("q", FLOATS),
            Source("k", _kv),
            Source("v", _kv),
            Source("mask", MASKS, optional=True),
            Source("sinks", F32, optional=True),
        ),
        F32,
        _flash_attn_ne,
        FlashAttnParams,
        (
            equal((K, 0), (Q, 0)),
            multiple((Q, 2), (K, 2)),
            multiple((Q, 3), (K, 3)),
            equal((V, 1), (K, 1)),
            multiple((Q, 2), (V, 2)),
            multiple((Q, 3), (V, 3)),
            at_least((MASK, 0), (K, 1)),
            at_least((MASK, 1), (Q, 1)),
            multiple((Q, 2), (MASK, 2)),
            multiple((Q, 3), (MASK, 3)),
            equal((SINKS, 0), (Q, 2)),
            not_empty(SINKS),
        ),
        flops=_flash_attn_flops,
    ),
)
