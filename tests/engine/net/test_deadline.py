from __future__ import annotations

import pytest

from ggrpc.engine.net.deadline import NEVER, Deadline, MinimumRate
from ggrpc.errors import TransportTimeout


def test_deadline_counts_down() -> None:
    left = Deadline(100).left()
    assert left is not None
    assert 99 < left <= 100


def test_deadline_that_has_passed_raises() -> None:
    with pytest.raises(TransportTimeout, match="within 0 s"):
        Deadline(0).left()


def test_no_deadline_has_no_end() -> None:
    assert NEVER.left() is None


def test_deadline_knows_when_it_is_over() -> None:
    assert Deadline(0).is_over
    assert not Deadline(100).is_over
    assert not NEVER.is_over


def test_pace_is_put_off_by_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pace = MinimumRate(10, "--x", rate=5)
    now = 109.0
    pace.moved(20)  # 4 seconds more
    now = 113.9
    assert pace.left() is None
    pace.moved(1 << 40)  # but never more than 10 from now on
    now = 124.0
    with pytest.raises(TransportTimeout, match="too slow for 10 s"):
        pace.left()
