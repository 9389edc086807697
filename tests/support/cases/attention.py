"""Cases of SOFT_MAX and FLASH_ATTN_EXT."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.attention import FlashAttnParams, SoftMaxParams
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Array, Case

F32, F16, BF16, Q8_0 = GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.Q8_0
Q4_1, Q5_0, Q5_1 = GGMLType.Q4_1, GGMLType.Q5_0, GGMLType.Q5_1
IQ4_NL = GGMLType.IQ4_NL

# ggml sums values of F16 up in F16, and rounds q to the type of k.
F16_LIMIT = 1e-4


def cases() -> Iterator[tuple[str, Case]]:
    yield from soft_max_cases()
    yield from flash_attn_cases()


def soft_max_cases() -> Iterator[tuple[str, Case]]:
    scores = (65, 3, 4, 2)
    yield "SOFT_MAX-plain", soft_max(scores)
    yield "SOFT_MAX-scaled", soft_max(scores, scale=0.125)
    for type in (F32, F16):
        yield f"SOFT_MAX-mask_{type.name}", soft_max(scores, (65, 3), type, 0.5)
    yield "SOFT_MAX-more_mask_rows", soft_max(scores, (65, 32), F16)
    yield "SOFT_MAX-mask_of_heads", soft_max((33, 3, 6, 2), (33, 3, 2, 2), F32)
    for heads in (4, 6):
        yield (
            f"SOFT_MAX-alibi_{heads}",
            soft_max((33, 3, heads), (33, 3), F16, 0.5, max_bias=8),
        )
    yield (
        "SOFT_MAX-alibi_mask_of_heads",
        soft_max((33, 3, 6), (33, 3, 3), F32, max_bias=4),
    )
    yield "SOFT_MAX-sinks", soft_max(scores, (65, 3), F16, 0.5, sinks=True)
    yield "SOFT_MAX-in_place", soft_max(scores, (65, 3), F16, 0.5, in_place=True)
    yield "SOFT_MAX-large", soft_max((256, 90, 7), (256, 90), F16, 0.5)


def causal_mask(shape: Sequence[int]) -> Array:
    """-inf in a part of each row, never in all of it; else small numbers."""
    rng = np.random.default_rng(8)
    mask = rng.standard_normal(tuple(shape)[::-1])
    rows, keys = mask.shape[-2:]
    hidden = np.arange(keys) > keys // 3 + np.arange(rows)[:, None]
    return np.where(hidden, -np.inf, mask)


def soft_max(
    ne: Sequence[int],
    mask: Sequence[int] | None = None,
    mask_type: GGMLType = F32,
    scale: float = 1.0,
    max_bias: float = 0.0,
    sinks: bool = False,
    in_place: bool = False,
) -> Case:
    case = Case()
    a = case.leaf(ne)
    m = case.leaf(causal_mask(mask), mask_type) if mask else None
    s = case.leaf((a.ne[2],)) if sinks else None
    over = a if in_place else None
    p = SoftMaxParams(scale, max_bias)
    case.node(Op.SOFT_MAX, [a, m, s], a.ne, params=p, inplace_over=over)
    return case


def flash_attn_cases() -> Iterator[tuple[str, Case]]:
    for type in (F32, F16, BF16, Q8_0, GGMLType.Q4_0):
        yield f"FLASH_ATTN_EXT-{type.name}", flash_attn(types=(type, type))
        yield f"FLASH_ATTN_EXT-token-{type.name}", flash_attn(1, types=(type, type))
    yield "FLASH_ATTN_EXT-mixed", flash_attn(types=(Q8_0, F16))
    for type in (Q4_1, Q5_0, Q5_1, IQ4_NL):
        yield f"FLASH_ATTN_EXT-token-{type.name}", flash_attn(1, types=(type, type))
    for widths in ((96, 64), (40, 40), (72, 80), (576, 512)):
        yield f"FLASH_ATTN_EXT-widths_{widths}", flash_attn(widths=widths)
    yield "FLASH_ATTN_EXT-no_mask", flash_attn(masked=False)
    yield "FLASH_ATTN_EXT-softcap", flash_attn(params=(0.2, 0, 5))
    yield "FLASH_ATTN_EXT-alibi", flash_attn(params=(0.125, 8, 0), heads=(6, 6))
    yield "FLASH_ATTN_EXT-sinks", flash_attn(sinks=True)
    yield "FLASH_ATTN_EXT-streams", flash_attn(streams=2)
    yield "FLASH_ATTN_EXT-mask_of_heads", flash_attn(mask_heads=2)
    yield "FLASH_ATTN_EXT-one_head_of_keys", flash_attn(heads=(8, 1))
    yield "FLASH_ATTN_EXT-nothing_visible", flash_attn(blind=True)
    yield "FLASH_ATTN_EXT-sinks_alone", flash_attn(blind=True, sinks=True)
    yield "FLASH_ATTN_EXT-long", flash_attn(1, n_kv=3000, types=(F16, F16))
    yield (
        "FLASH_ATTN_EXT-long_alibi",
        flash_attn(1, n_kv=3000, params=(0.125, 8, 0), heads=(8, 2)),
    )
    yield (
        "FLASH_ATTN_EXT-long_quantized",
        flash_attn(3, n_kv=3000, types=(Q8_0, Q8_0), sinks=True),
    )
    yield "FLASH_ATTN_EXT-prompt", flash_attn(131, n_kv=1500, heads=(8, 2))
    yield "FLASH_ATTN_EXT-prompt_streams", flash_attn(70, n_kv=700, streams=2)


def flash_attn(
    n: int = 5,
    n_kv: int = 64,
    heads: tuple[int, int] = (8, 4),
    widths: tuple[int, int] = (64, 64),
    types: tuple[GGMLType, GGMLType] = (F32, F32),
    params: tuple[float, float, float] = (0.125, 0, 0),
    streams: int = 1,
    masked: bool = True,
    mask_heads: int = 1,
    sinks: bool = False,
    blind: bool = False,
) -> Case:
    """q, k and v as llama.cpp lays them out: all heads of a token side by side."""
    case = Case(limit=F16_LIMIT if types == (F16, F16) or BF16 in types else None)
    q = by_head(case, F32, (widths[0], heads[0], n, streams))
    k = by_head(case, types[0], (widths[0], heads[1], n_kv, streams))
    v = by_head(case, types[1], (widths[1], heads[1], n_kv, streams))
    mask = None
    if masked:
        hidden = causal_mask((n_kv, n, mask_heads, streams))
        if blind:
            hidden[..., 1, :] = -np.inf
        mask = case.leaf(hidden, F16)
    s = case.leaf((heads[0],)) if sinks else None
    case.node(
        Op.FLASH_ATTN_EXT,
        [q, k, v, mask, s],
        (widths[1], heads[0], n, streams),
        params=FlashAttnParams(*params, prec=10),
    )
    return case


def by_head(case: Case, type: GGMLType, ne: Sequence[int]) -> Tensor:
    return case.permute(case.leaf(ne, type), 0, 2, 1, 3)
