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
        (3, "there is no scale mode 3"),
        (ScaleMode.BICUBIC | ScaleFlag.ANTIALIAS, "BICUBIC cannot be antialiased"),
        (ScaleMode.NEAREST | ScaleFlag.ANTIALIAS, "NEAREST cannot be antialiased"),
    ],
)
def test_upscale_of_unknown_mode_is_refused(mode: int, message: str) -> None:
    case = Case()
    case.node(Op.UPSCALE, [case.leaf((4, 3))], (8, 6), params=UpscaleParams(mode))
    assert_refused(case, message)


def test_upscale_of_nothing_is_refused() -> None:
    case = Case()
    case.node(Op.UPSCALE, [case.leaf((4, 0))], (8, 6), params=UpscaleParams(0))
    assert_refused(case, "a is empty")
