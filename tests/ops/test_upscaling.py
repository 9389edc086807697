"""The contract of UPSCALE."""

from __future__ import annotations

import pytest

from ggrpc.op import Op
from ggrpc.ops.upscaling import ScaleFlag, ScaleMode, UpscaleParams
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (3, "the scale mode is 3, must be 0 to 2"),
        (
            ScaleMode.BICUBIC | ScaleFlag.ANTIALIAS,
            "mode is BICUBIC with ANTIALIAS, must be BILINEAR",
        ),
        (
            ScaleMode.NEAREST | ScaleFlag.ANTIALIAS,
            "mode is NEAREST with ANTIALIAS, must be BILINEAR",
        ),
    ],
)
def test_upscale_of_unknown_mode_is_refused(mode: int, message: str) -> None:
    case = Case()
    case.node(Op.UPSCALE, [case.leaf((4, 3))], (8, 6), params=UpscaleParams(mode))
    assert_refused(case, message)


def test_upscale_of_nothing_is_refused() -> None:
    case = Case()
    case.node(Op.UPSCALE, [case.leaf((4, 0))], (8, 6), params=UpscaleParams(0))
    assert_refused(case, "a's ne is .*, must not be empty")
