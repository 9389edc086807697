"""Cases of gradients, and of CROSS_ENTROPY_LOSS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.attention import SoftMaxParams
from ggrpc.ops.backward import FlashAttnBackParams
from ggrpc.ops.norms import NormParams
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case

F32, F16 = GGMLType.F32, GGMLType.F16
SHAPES = {
    "one_row": (2048,),
    "odd": (67, 5, 3, 2),
    "single": (1, 4),
    "large": (512, 300),
}


def cases() -> Iterator[tuple[str, Case]]:
    for name, ne in SHAPES.items():
        yield f"SILU_BACK-{name}", silu_back(ne)
        # In a row of one element all but what eps leaves over cancels out.
        yield f"RMS_NORM_BACK-{name}", rms_norm_back(ne, 1e-5 if ne[0] > 1 else 0.5)
        yield f"SOFT_MAX_BACK-{name}", soft_max_back(ne)
        yield f"CROSS_ENTROPY_LOSS-{name}", cross_entropy_loss(ne)
        yield f"CROSS_ENTROPY_LOSS_BACK-{name}", cross_entropy_loss_back(ne)
    yield "SILU_BACK-F16", silu_back((33, 4), F16)
    yield "SILU_BACK-in_place", silu_back((33, 4), in_place=True)
    yield "RMS_NORM_BACK-in_place", rms_norm_back((33, 4), in_place=True)
    yield "RMS_NORM_BACK-parts", rms_norm_back_of_parts()
    yield "RMS_NORM_BACK-large_eps", rms_norm_back((33, 4), eps=10)
    yield "SOFT_MAX_BACK-in_place", soft_max_back((33, 4), in_place=True)
    yield "SOFT_MAX_BACK-scaled", soft_max_back((33, 4), scale=0.1)
    yield "GET_ROWS_BACK-repeated", get_rows_back(32, 5, [3, 1, 3, 3, 0, 1])
    yield "GET_ROWS_BACK-F16", get_rows_back(32, 5, [3, 1, 3], F16)
    yield "GET_ROWS_BACK-one_column", get_rows_back(1, 700, [699, 0])
    yield "GET_ROWS_BACK-fewer_indices", get_rows_back(32, 5, [4, 2], rows=4)
    yield "GET_ROWS_BACK-large", get_rows_back(96, 50, [i * i % 50 for i in range(300)])
    yield "FLASH_ATTN_BACK", flash_attn_back(masked=0)
    yield "FLASH_ATTN_BACK-masked", flash_attn_back(masked=1, keys=9)
    yield "FLASH_ATTN_BACK-one_token", flash_attn_back(masked=1, tokens=1, heads=1)
    yield "FLASH_ATTN_BACK-shared_heads", flash_attn_back(masked=1, heads=6, seqs=1)


def silu_back(ne: Sequence[int], type: GGMLType = F32, in_place: bool = False) -> Case:
    case = Case()
    grad, x = case.leaf(ne, type), case.leaf(ne, type)
    over = grad if in_place else None
    case.node(Op.SILU_BACK, [grad, x], ne, type, inplace_over=over)
    return case


def rms_norm_back(ne: Sequence[int], eps: float = 1e-5, in_place: bool = False) -> Case:
    case = Case()
    grad, x = case.leaf(ne), case.leaf(ne)
    over = grad if in_place else None
    params = NormParams(eps)
    case.node(Op.RMS_NORM_BACK, [grad, x], ne, params=params, inplace_over=over)
    return case


def rms_norm_back_of_parts() -> Case:
    """Parts of longer rows, as of the queries in a fused projection."""
    case = Case()
    grad, wide = case.leaf((32, 4, 5)), case.leaf((192, 5))
    x = case.view(wide, (32, 4, 5), (4, 128, 768), offset=128)
    case.node(Op.RMS_NORM_BACK, [grad, x], x.ne, params=NormParams(1e-5))
    return case


def soft_max_back(ne: Sequence[int], scale: float = 1, in_place: bool = False) -> Case:
    case = Case()
    grad, y = case.leaf(ne), probabilities(case, ne)
    over = grad if in_place else None
    params = SoftMaxParams(scale, 0)
    case.node(Op.SOFT_MAX_BACK, [grad, y], ne, params=params, inplace_over=over)
    return case


def probabilities(case: Case, ne: Sequence[int]) -> Tensor:
    """Rows of positive numbers that sum up to 1."""
    values = case.rng.random(ne[::-1])
    return case.leaf(values / values.sum(axis=-1, keepdims=True))


def get_rows_back(
    width: int,
    count: int,
    ids: Sequence[int],
    type: GGMLType = F32,
    rows: int | None = None,
) -> Case:
    case = Case()
    grad = case.leaf((width, rows or len(ids)), type)
    index = case.leaf(np.array(ids), GGMLType.I32)
    case.node(Op.GET_ROWS_BACK, [grad, index], (width, count))
    return case


def cross_entropy_loss(ne: Sequence[int]) -> Case:
    case = Case()
    logits, labels = case.leaf(ne), probabilities(case, ne)
    case.node(Op.CROSS_ENTROPY_LOSS, [logits, labels], (1,))
    return case


def cross_entropy_loss_back(ne: Sequence[int]) -> Case:
    case = Case()
    grad, logits = case.leaf((1,)), case.leaf(ne)
    labels = probabilities(case, ne)
    case.node(Op.CROSS_ENTROPY_LOSS_BACK, [grad, logits, labels], ne)
    return case


def flash_attn_back(
    masked: int, tokens: int = 5, keys: int = 7, heads: int = 3, seqs: int = 2
) -> Case:
    """Heads of 6 elements, 3 heads of k and v at most."""
    case = Case()
    shared = min(heads, 3)
    q, d = (case.leaf((6, tokens, heads, seqs)) for _ in "qd")
    k, v = case.leaf((6, keys, shared, seqs)), case.leaf((keys, 6, shared, seqs))
    sizes = [-(-x.nelements // 4) * 4 for x in (q, k, v)]
    params = FlashAttnBackParams(masked)
    case.node(Op.FLASH_ATTN_BACK, [q, k, v, d], (sum(sizes),), params=params)
    return case
