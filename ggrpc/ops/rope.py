"""ROPE: rotary position embedding. Pairs of elements are rotated by an angle.

The angle grows with the position. ROPE_BACK rotates in the opposite direction.
"""

from __future__ import annotations

import math
from enum import IntEnum
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define, flops_per_element
from ggrpc.ops.rules import F32, I32, RESULT, dense_rows, like, not_empty
from ggrpc.types import FLOATS

A, POS, FREQ_FACTORS = 0, 1, 2
MAX_DIMS = 1 << 16  # the angles are computed pair by pair; models have hundreds


class RopeMode(IntEnum):
    """Which elements form a pair, and which position applies: `GGML_ROPE_TYPE_*`."""

    NORMAL = 0
    NEOX = 2
    MROPE = 8
    VISION = 24
    IMROPE = 40


class RopeParams(NamedTuple):
    """The arguments of ggml_rope_impl.

    Attributes:
        n_dims: the number of elements of a row to rotate; even.
        mode: a RopeMode.
        n_ctx_orig, ext_factor, attn_factor, beta_fast, beta_slow: parameters of YaRN.
        section_t, section_h, section_w, section_e: the number of pairs for each of the
            four positions of MROPE.
        n_offs: the first element to rotate (0 before 2026-08).
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
        """The number of pairs for each of the four positions."""
        return self.section_t, self.section_h, self.section_w, self.section_e

    @property
    def positions(self) -> int:
        """The number of positions of a token."""
        return 4 if self.mode & RopeMode.MROPE else 1


def _known_mode(node: Node) -> str | None:
    mode = node.params.mode
    return (
        None
        if mode in (*RopeMode,)
        else f"mode is {mode}, must be one of {[int(m) for m in RopeMode]}"
    )


def _dims(node: Node) -> str | None:
    p, ne0 = node.params, node.source(A).ne[0]
    if not 2 <= p.n_dims <= MAX_DIMS or p.n_dims % 2:
        return f"n_dims is {p.n_dims}, must be even and 2 to {MAX_DIMS}"
    if p.n_offs < 0 or p.n_offs % 2:
        return f"n_offs is {p.n_offs}, must be even and >= 0"
    if p.n_offs + p.n_dims > ne0:
        total = p.n_offs + p.n_dims
        return f"n_offs + n_dims is {total}, must be at most a.ne[0], {ne0}"
    if p.mode == RopeMode.VISION and (p.n_offs or 2 * p.n_dims != ne0):
        given = f"n_dims is {p.n_dims} and n_offs is {p.n_offs}"
        return f"{given}, must be half of a.ne[0], {ne0}, and 0 in this mode"
    return None


def _sections(node: Node) -> str | None:
    p = node.params
    if not p.mode & RopeMode.MROPE:
        return None
    ne0 = node.source(A).ne[0]
    if min(p.sections) < 0 or not 0 < sum(p.sections) <= ne0:
        return f"the sections are {list(p.sections)}, must add up to 1 to {ne0}"
    return None


def _positions(node: Node) -> str | None:
    ne, tokens = node.source(POS).ne, node.source(A).ne[2]
    expected = tokens * node.params.positions
    if ne == (expected, 1, 1, 1):
        return None
    return f"pos's ne is {list(ne)}, must be [{expected}] for {tokens} tokens"


def _factors(node: Node) -> str | None:
    factors, half = node.src[FREQ_FACTORS], node.params.n_dims // 2
    if factors is None or factors.ne[0] >= half:
        return None
    return f"freq_factors has {factors.ne[0]} elements, must have at least {half}"


def pairs(p: RopeParams) -> int:
    """The number of pairs to rotate; in VISION n_dims is half of the elements."""
    return p.n_dims if p.mode == RopeMode.VISION else p.n_dims // 2


def sections(p: RopeParams, count: int) -> list[tuple[int, int]]:
    """The number of the position and the power of theta_scale, for each pair.

    Source: ggml_mrope_cache_init. In VISION each section starts with power 0.
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
    """The number of the position, 0 to 3; IMROPE interleaves the first three."""
    if p.mode == RopeMode.IMROPE:
        position = sector % 3
        return position if sector < 3 * p.sections[position] else 3
    return sum(sector >= start for start in starts[1:4])


def interpolation(p: RopeParams, count: int) -> NDArray[np.float32]:
    """YaRN's factor of the angle of each pair, between freq_scale and 1.

    The shape is (count,), or () if all pairs have the same factor.

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


def _corrected_dim(p: RopeParams, rotations: float) -> float:
    """The element whose pair rotates `rotations` times in the original context."""
    ratio = np.float64(p.n_ctx_orig) / (rotations * 2 * math.pi)
    return float(p.n_dims * np.log(ratio) / (2 * np.log(np.float64(p.freq_base))))


def magnitude(p: RopeParams) -> float:
    """YaRN's factor of the cosines and sines."""
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
            flops=flops_per_element(3),
        )
        for op in (Op.ROPE, Op.ROPE_BACK)
    )
)
