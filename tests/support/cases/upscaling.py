"""Cases of UPSCALE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggrpc.op import Op
from ggrpc.ops.upscaling import ScaleFlag, ScaleMode, UpscaleParams
from tests.support.case import Case

MODES = {
    "nearest": ScaleMode.NEAREST,
    "bilinear": ScaleMode.BILINEAR,
    "bicubic": ScaleMode.BICUBIC,
    "antialiased": ScaleMode.BILINEAR | ScaleFlag.ANTIALIAS,
    "nearest_aligned": ScaleMode.NEAREST | ScaleFlag.ALIGN_CORNERS,
    "bilinear_aligned": ScaleMode.BILINEAR | ScaleFlag.ALIGN_CORNERS,
    "bicubic_aligned": ScaleMode.BICUBIC | ScaleFlag.ALIGN_CORNERS,
    "antialiased_aligned": (
        ScaleMode.BILINEAR | ScaleFlag.ALIGN_CORNERS | ScaleFlag.ANTIALIAS
    ),
}
SHAPES = {
    "larger": ((2, 5, 7, 11), (5, 7, 11, 13)),
    "smaller": ((5, 7, 11, 13), (2, 5, 7, 11)),
    "half": ((64, 48, 3), (23, 31, 3)),
    "narrower_but_taller": ((30, 4, 6, 2), (7, 21, 5, 3)),
    "twice": ((9, 6, 3, 2), (18, 12, 3, 2)),
    "of_one": ((1, 4, 3, 2), (2, 8, 3, 2)),
    "to_one": ((4, 1, 3, 2), (1, 1, 3, 2)),
    "same": ((13, 9, 3), (13, 9, 3)),
    "large": ((256, 200, 3), (512, 300, 3)),
}


def cases() -> Iterator[tuple[str, Case]]:
    for mode, number in MODES.items():
        for name, (ne, result) in SHAPES.items():
            yield f"UPSCALE-{mode}-{name}", upscale(number, ne, result)
        yield f"UPSCALE-{mode}-transposed", transposed(number)


def upscale(mode: int, ne: Sequence[int], result: Sequence[int]) -> Case:
    case = Case()
    case.node(Op.UPSCALE, [case.leaf(ne)], result, params=UpscaleParams(mode))
    return case


def transposed(mode: int) -> Case:
    case = Case()
    x = case.permute(case.leaf((7, 12, 3)), 1, 0, 2, 3)
    case.node(Op.UPSCALE, [x], (24, 9, 3), params=UpscaleParams(mode))
    return case
