"""Cases of ROPE, ROPE_BACK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.rope import RopeMode, RopeParams
from ggrpc.types import GGMLType
from tests.support.case import Case

PLAIN = RopeParams(
    n_past=0,
    n_dims=64,
    mode=RopeMode.NORMAL,
    n_ctx=0,
    n_ctx_orig=4096,
    freq_base=10000.0,
    freq_scale=1.0,
    ext_factor=0.0,
    attn_factor=1.0,
    beta_fast=32.0,
    beta_slow=1.0,
    section_t=0,
    section_h=0,
    section_w=0,
    section_e=0,
    n_offs=0,
)
YARN: dict[str, Any] = {
    "freq_scale": 0.25,
    "ext_factor": 1.0,
    "attn_factor": 1.1,
    "n_ctx_orig": 2048,
}
SECTIONS: dict[str, Any] = {"section_t": 12, "section_h": 10, "section_w": 10}
FOUR_SECTIONS: dict[str, Any] = {**SECTIONS, "section_w": 6, "section_e": 4}


def cases() -> Iterator[tuple[str, Case]]:
    for mode in RopeMode:
        p = params(mode)
        yield f"{mode.name}", rope(p)
        yield f"{mode.name}-F16", rope(p, type=GGMLType.F16)
        yield f"{mode.name}-in_place", rope(p, in_place=True)
        yield f"{mode.name}-batch", rope(p, heads=3, tokens=4, batch=2)
        yield f"{mode.name}-yarn", rope(p._replace(**YARN))
        yield f"{mode.name}-scaled", rope(p._replace(freq_scale=0.5, attn_factor=0.8))
        yield f"{mode.name}-factors", rope(p, factors=True)
        yield f"{mode.name}-large", rope(p, heads=32, tokens=70)
        yield f"{mode.name}-back", rope(p._replace(**YARN), op=Op.ROPE_BACK)
    for mode in (RopeMode.NORMAL, RopeMode.NEOX, RopeMode.MROPE):
        p = params(mode)
        yield f"{mode.name}-partial", rope(p, ne0=96)
        yield f"{mode.name}-partial_in_place", rope(p, ne0=96, in_place=True)
        yield f"{mode.name}-offset", rope(p._replace(n_offs=16), ne0=96)
    yield "MROPE-four_sections", rope(PLAIN._replace(mode=8, **FOUR_SECTIONS))
    yield "IMROPE-four_sections", rope(PLAIN._replace(mode=40, **FOUR_SECTIONS))
    yield "NORMAL-of_a_view", of_view()
    yield "NEOX-shared_table", shared_table()
    yield "NORMAL-there_and_back", there_and_back()


def params(mode: RopeMode) -> RopeParams:
    if mode == RopeMode.VISION:
        return PLAIN._replace(mode=mode, n_dims=32, section_t=16, section_h=16)
    if mode & RopeMode.MROPE:
        return PLAIN._replace(mode=mode, **SECTIONS)
    return PLAIN._replace(mode=mode)


def rope(
    p: RopeParams,
    heads: int = 4,
    tokens: int = 5,
    batch: int = 1,
    ne0: int = 64,
    type: GGMLType = GGMLType.F32,
    factors: bool = False,
    in_place: bool = False,
    op: Op = Op.ROPE,
) -> Case:
    case = Case()
    x = case.leaf((ne0, heads, tokens, batch), type)
    pos = case.leaf(positions(p.positions, tokens), GGMLType.I32)
    c = case.leaf(np.linspace(1, 8, p.n_dims)) if factors else None
    case.node(op, [x, pos, c], x.ne, type, p, inplace_over=x if in_place else None)
    return case


def positions(kinds: int, tokens: int) -> np.ndarray[Any, Any]:
    """Far ones too: 0, 1, 2, ... for some tokens and some thousands for others."""
    start = np.random.default_rng(7).integers(0, 5000, kinds)[:, None]
    return (start * (np.arange(tokens) % 2) + np.arange(tokens)).reshape(-1)


def of_view() -> Case:
    """The queries of a fused projection."""
    case = Case()
    wide = case.leaf((384, 3))
    x = case.view(wide, (64, 4, 3), (4, 256, 1536), offset=256)
    pos = case.leaf(np.array([5, 6, 7]), GGMLType.I32)
    case.node(Op.ROPE, [x, pos], x.ne, params=PLAIN)
    return case


def shared_table() -> Case:
    """Two nodes turn by the same positions, a third by others in their place."""
    case, p = Case(), PLAIN._replace(mode=RopeMode.NEOX)
    x, pos = case.leaf((64, 2, 3)), case.leaf(np.array([1, 2, 3]), GGMLType.I32)
    others = case.leaf(np.array([9, 8, 7]), GGMLType.I32)
    ne: Sequence[int] = x.ne
    case.node(Op.ROPE, [x, pos], ne, params=p, name="first")
    case.node(Op.ROPE, [x, pos], ne, params=p, name="second")
    moved = case.node(Op.CPY, [others, pos], pos.ne, GGMLType.I32, inplace_over=pos)
    case.node(Op.ROPE, [x, moved], ne, params=p, name="third")
    case.node(Op.ROPE, [x, pos], ne, params=p, name="fourth")
    return case


def there_and_back() -> Case:
    """Both by the same positions, in one graph."""
    case = Case()
    x, pos = case.leaf((64, 2, 3)), case.leaf(np.array([1, 5, 9]), GGMLType.I32)
    turned = case.node(Op.ROPE, [x, pos], x.ne, params=PLAIN, name="turned")
    case.node(Op.ROPE_BACK, [turned, pos], x.ne, params=PLAIN, name="back")
    return case
