"""UPSCALE: an image interpolated to a larger or smaller size."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, MAX_TAPS, any_shape

A = 0


class ScaleMode(IntEnum):
    """The interpolation: `enum ggml_scale_mode`."""

    NEAREST = 0
    BILINEAR = 1
    BICUBIC = 2


class ScaleFlag(IntFlag):
    """Flags in the upper bits of the mode: `enum ggml_scale_flag`."""

    ALIGN_CORNERS = 1 << 8
    ANTIALIAS = 1 << 9


class UpscaleParams(NamedTuple):
    """A ScaleMode, plus ScaleFlags."""

    mode: int


def _known_mode(node: Node) -> str | None:
    mode = node.params.mode & 0xFF
    if mode not in (*ScaleMode,):
        return f"the scale mode is {mode}, must be 0 to {max(ScaleMode):d}"
    if node.params.mode & ScaleFlag.ANTIALIAS and mode != ScaleMode.BILINEAR:
        return f"mode is {ScaleMode(mode).name} with ANTIALIAS, must be BILINEAR"
    return None


def _limit_taps(node: Node) -> str | None:
    """The rule that a pixel averages at most MAX_TAPS others."""
    if not node.params.mode & ScaleFlag.ANTIALIAS:
        return None
    before, after = node.source(A).ne[:2], node.tensor.ne[:2]
    taps = max(2 * n // max(1, m) for n, m in zip(before, after, strict=True))
    if taps <= MAX_TAPS:
        return None
    return f"a pixel covers {taps} others, must be at most {MAX_TAPS}"


def _has_pixels(node: Node) -> str | None:
    ne = node.source(A).ne
    return f"a's ne is {list(ne)}, must not be empty" if 0 in ne else None


define(
    Contract(
        Op.UPSCALE,
        (Source("a", F32),),
        F32,
        any_shape,
        UpscaleParams,
        (_known_mode, _has_pixels, _limit_taps),
    )
)
