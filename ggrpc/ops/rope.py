"""ROPE: pairs of a row's elements turned by an angle that grows with the position.

ROPE_BACK turns them the other way.
"""

from __future__ import annotations

import math
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define, several_each
from ggrpc.ops.rules import F32, I32, RESULT, dense_rows, like, not_empty
from ggrpc.types import FLOATS

A, POS, FREQ_FACTORS = 0, 1, 2
MAX_DIMS = 1 << 16  # each pair of which is looked at by itself; models have hundreds


class RopeMode(IntEnum):
    """Which elements make a pair, and which position turns it: `GGML_ROPE_TYPE_*`."""

    NORMAL = 0
    NEOX = 2
    MROPE = 8
    VISION = 24
    IMROPE = 40


class RopeParams(NamedTuple):
    """Source: ggml_rope_impl; the names are those of its arguments.

    Attributes:
        n_dims: elements of a row that are turned, an even number.
        mode: a RopeMode.
        n_ctx_orig, ext_factor, attn_factor, beta_fast, beta_slow: YaRN's.
        section_t, section_h, section_w, section_e: pairs that each of the four
            positions of MROPE turns.
        n_offs: the first element that is turned (0 before 2026-08).
    """

    n_past: int
    n_dims: int
    mode: int
    n_ctx: int
    n_ctx_orig: int
    freq_base: float
    freq_scale: float
    ext_factor: float
    attn_factor: float
    beta_fast: float
    beta_slow: float
    section_t: int
    section_h: int
    section_w: int
    section_e: int
    n_offs: int

    @property
    def sections(self) -> tuple[int, int, int, int]:
        """The pairs of each of the four positions."""
        return self.section_t, self.section_h, self.section_w, self.section_e

    @property
    def positions(self) -> int:
        """How many positions a token has."""
        return 4 if self.mode & RopeMode.MROPE else 1


def _known_mode(node: Node) -> str | None:
    mode = node.params.mode
    return None if mode in (*RopeMode,) else f"there is no rope mode {mode}"


def _dims(node: Node) -> str | None:
    p, ne0 = node.params, node.source(A).ne[0]
    if p.n_dims < 2 or p.n_dims % 2 or p.n_offs < 0 or p.n_offs % 2:
        return f"n_dims is {p.n_dims} and n_offs {p.n_offs}: must be even"
    if p.n_dims > MAX_DIMS:
        return f"n_dims is {p.n_dims}, can be {MAX_DIMS}"
    if p.n_offs + p.n_dims > ne0:
        return f"n_offs {p.n_offs} and n_dims {p.n_dims} exceed the row's {ne0}"
    if p.mode == RopeMode.VISION and (p.n_offs or 2 * p.n_dims != ne0):
        return f"n_dims is {p.n_dims}, must be half of the row's {ne0}"
    return None


def _sections(node: Node) -> str | None:
    p = node.params
    if not p.mode & RopeMode.MROPE:
        return None
    if min(p.sections) < 0 or not 0 < sum(p.sections) <= node.source(A).ne[0]:
        return f"the sections {list(p.sections)} do not divide the row"
    return None


def _positions(node: Node) -> str | None:
    ne, tokens = node.source(POS).ne, node.source(A).ne[2]
    expected = tokens * node.params.positions
    if ne == (expected, 1, 1, 1):
        return None
    return f"pos's ne is {list(ne)}, must be {expected} for {tokens} tokens"


def _factors(node: Node) -> str | None:
    factors, half = node.src[FREQ_FACTORS], node.params.n_dims // 2
    if factors is None or factors.ne[0] >= half:
        return None
    return f"freq_factors has {factors.ne[0]} elements, must have {half}"


def pairs(p: RopeParams) -> int:
    """Pairs that are turned; VISION counts only half of the elements as n_dims."""
    return p.n_dims if p.mode == RopeMode.VISION else p.n_dims // 2


def sections(p: RopeParams, count: int) -> list[tuple[int, int]]:
    """For each pair, which position turns it, and by which power of theta_scale.

    Source: ggml_mrope_cache_init. VISION begins with power 0 in each section.
    """
    starts = [0, *accumulate(p.sections)]
    powers = [0, 0, 0, 0]
    found = []
    for pair in range(count):
        sector = pair % starts[4]
        if p.mode == RopeMode.VISION and sector in starts[:4]:
            powers[starts.index(sector)] = 0
        position = _position(p, sector, starts)
        found.append((position, powers[position]))
        powers = [power + 1 for power in powers]
    return found


def _position(p: RopeParams, sector: int, starts: list[int]) -> int:
    """Which of the four positions; IMROPE deals the first three out in turn."""
    if p.mode == RopeMode.IMROPE:
        turn = sector % 3
        return turn if sector < 3 * p.sections[turn] else 3
    return sum(sector >= start for start in starts[1:4])


def interpolation(p: RopeParams, count: int) -> NDArray[np.float32]:
    """What YaRN multiplies the angle of each pair by: freq_scale, or nearer to 1.

    Source: rope_yarn and ggml_rope_yarn_corr_dims.
    """
    scale = np.asarray(p.freq_scale, np.float32)
    if not p.ext_factor:
        return scale
    with np.errstate(all="ignore"):
        low = max(0.0, np.floor(_corrected_dim(p, p.beta_fast)))
        high = min(p.n_dims - 1.0, np.ceil(_corrected_dim(p, p.beta_slow)))
        ramp = (np.arange(count, dtype=np.float32) - low) / max(0.001, high - low)
        mix = (1 - np.clip(ramp, 0, 1)) * np.float32(p.ext_factor)
    factor: NDArray[np.float32] = (scale * (1 - mix) + mix).astype(np.float32)
    return factor


def _corrected_dim(p: RopeParams, turns: float) -> float:
    """The element whose pair makes so many turns in the original context."""
    ratio = np.float64(p.n_ctx_orig) / (turns * 2 * math.pi)
    return float(p.n_dims * np.log(ratio) / (2 * np.log(np.float64(p.freq_base))))


def magnitude(p: RopeParams) -> float:
    """What cosines and sines are multiplied by."""
    if not p.ext_factor:
        return p.attn_factor
    with np.errstate(all="ignore"):
        return p.attn_factor * (1 - 0.1 * float(np.log(np.float64(p.freq_scale))))


define(
    *(
        Contract(
            op,
            (
                Source("a", FLOATS),
                Source("pos", I32),
                Source("freq_factors", F32, optional=True),
            ),
            FLOATS,
            like(A),
            RopeParams,
            (
                dense_rows(A),
                dense_rows(RESULT),
                _known_mode,
                _dims,
                _sections,
                _positions,
                _factors,
                not_empty(FREQ_FACTORS),
            ),
            flops=several_each(3),
        )
        for op in (Op.ROPE, Op.ROPE_BACK)
    )
)
