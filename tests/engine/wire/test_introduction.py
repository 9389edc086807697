from __future__ import annotations

import pytest

from ggrpc.engine.wire.dialects import V7_0_0, V8_0_0
from ggrpc.engine.wire.introduction import introduced, introduction, purpose_of


@pytest.mark.parametrize("purpose", ["", "check", "a" * 15])
def test_introduction_says_the_version_and_the_purpose(purpose: str) -> None:
    caps = introduction(V8_0_0.version, purpose)
    assert len(caps) == 24
    assert introduced(caps) == V8_0_0.version
    assert purpose_of(caps) == purpose


@pytest.mark.parametrize(
    "purpose",
    [b"\x1b[2J", b"a\nb", b"a\0b", b"Check", "\u00e9".encode()],
    ids=["escape", "line", "zero", "capital", "utf-8"],
)
def test_purpose_that_ggrpc_does_not_send_is_ignored(purpose: bytes) -> None:
    caps = introduction(V7_0_0.version)[:9] + purpose.ljust(15, b"\0")
    assert introduced(caps) == V7_0_0.version
    assert purpose_of(caps) == ""


def test_parameters_of_rdma_are_no_introduction() -> None:
    assert introduced(bytes(24)) is None
    assert purpose_of(bytes(9) + b"check".ljust(15, b"\0")) == ""
