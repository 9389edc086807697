"""UPSCALE: an image brought to another size, larger or smaller."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Source, define
from ggrpc.ops.rules import F32, MAX_TAPS, own

A = 0


class ScaleMode(IntEnum):
    """How values in between are made up: `enum ggml_scale_mode`."""

    NEAREST = 0
    BILINEAR = 1
    BICUBIC = 2


class ScaleFlag(IntFlag):
    """What is added to the mode: `enum ggml_scale_flag`."""

    ALIGN_CORNERS = 1 << 8
    ANTIALIAS = 1 << 9


class UpscaleParams(NamedTuple):
    """A ScaleMode, plus ScaleFlags."""

    mode: int


def _known_mode(node: Node) -> str | None:
    mode = node.params.mode & 0xFF
    if mode not in (*ScaleMode,):
        return f"there is no scale mode {mode}"
    if node.params.mode & ScaleFlag.ANTIALIAS and mode != ScaleMode.BILINEAR:
        return f"{ScaleMode(mode).name} cannot be antialiased"
    return None


def _few_taps(node: Node) -> str | None:
    """A pixel of a smaller image is made of all those that it covers."""
    if not node.params.mode & ScaleFlag.ANTIALIAS:
        return None
    before, after = node.source(A).ne[:2], node.tensor.ne[:2]
    taps = max(2 * n // max(1, m) for n, m in zip(before, after, strict=True))
    return None if taps <= MAX_TAPS else f"a pixel is made of {taps} others"


def _has_pixels(node: Node) -> str | None:
    return "a is empty" if 0 in node.source(A).ne else None


define(
    Contract(
        Op.UPSCALE,
        (Source("a", F32),),
        F32,
        own,
        UpscaleParams,
        (_known_mode, _has_pixels, _few_taps),
    )
)
