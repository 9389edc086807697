from __future__ import annotations

import pytest

from ggrpc.engine.net.deadline import (
    ANSWER_SECONDS,
    MIN_BYTES_PER_SECOND,
    NEVER,
    Deadline,
    IdleTimeout,
    MinimumRate,
    SharedTimeout,
)
from ggrpc.errors import TransportTimeout


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_deadline_counts_down_whatever_moves(clock: Clock) -> None:
    deadline = Deadline(10)
    clock.now += 4
    deadline.moved(1000)
    assert deadline.timeout() == 6


def test_deadline_that_has_passed_raises() -> None:
    with pytest.raises(TransportTimeout, match="within 0 s"):
        Deadline(0).timeout()


def test_no_deadline_has_no_end() -> None:
    assert NEVER.timeout() is None
    assert IdleTimeout(None).timeout() is None


def test_deadline_knows_when_it_is_over() -> None:
    assert Deadline(0).is_over
    assert not Deadline(100).is_over
    assert not NEVER.is_over


def test_deadline_before_another_ends_sooner(clock: Clock) -> None:
    assert Deadline(10).before(0.5).timeout() == 9.5
    assert Deadline(1).before(0.5).timeout() == pytest.approx(0.9)
    assert NEVER.before(1).timeout() is None


def test_idle_timeout_extends_with_each_byte_up_to_its_seconds(clock: Clock) -> None:
    idle = IdleTimeout(10, rate=5)
    clock.now += 9
    assert idle.timeout() == 1
    idle.moved(10)  # 2 seconds more
    assert idle.timeout() == 3
    idle.moved(1 << 40)
    assert idle.timeout() == 10
    clock.now += 10
    with pytest.raises(TransportTimeout, match="within 10 s"):
        idle.timeout()


def test_idle_timeout_ends_for_a_peer_that_sends_byte_by_byte(clock: Clock) -> None:
    idle = IdleTimeout(10)
    clock.now += 9  # the first byte may take long
    for _ in range(11):
        idle.moved(1)
        clock.now += 1
    with pytest.raises(TransportTimeout, match="within 10 s"):
        idle.timeout()


def test_idle_timeout_never_ends_for_a_slow_network(clock: Clock) -> None:
    idle = IdleTimeout(10)
    for _ in range(100):
        idle.moved(MIN_BYTES_PER_SECOND * 9)
        clock.now += 9
        assert idle.timeout() == 1


def test_shared_timeout_counts_only_from_resume_to_pause(clock: Clock) -> None:
    shared = SharedTimeout(60)
    for _ in range(3):
        clock.now += 1000
        shared.resume()
        clock.now += 10
        shared.pause()
    shared.resume()
    assert shared.timeout() == 30
    shared.resume(renewed=True)
    assert shared.timeout() == 60


def test_shared_timeout_ends_for_a_peer_that_answers_just_in_time(clock: Clock) -> None:
    shared = SharedTimeout(60)
    for _ in range(1000):  # at the least rate
        shared.resume()
        clock.now += ANSWER_SECONDS
        shared.answered()
        shared.pause()
    shared.resume()
    assert shared.timeout() == 60
    clock.now += 59
    shared.answered()
    shared.pause()
    shared.resume()
    assert shared.timeout() == 1 + ANSWER_SECONDS
    clock.now += 59
    with pytest.raises(TransportTimeout, match="within 60 s"):
        shared.timeout()


def test_shared_timeout_without_limit_never_ends(clock: Clock) -> None:
    shared = SharedTimeout(None)
    for renewed in (True, False):
        shared.resume(renewed)
        clock.now += 1e6
        shared.answered()
        shared.pause()
        assert shared.timeout() is None


def test_minimum_rate_extends_with_each_byte_up_to_its_seconds(clock: Clock) -> None:
    rate = MinimumRate(10, "--x", rate=5)
    clock.now += 9
    rate.moved(20)  # 4 seconds more
    clock.now += 4.9
    assert rate.timeout() is None
    rate.moved(1 << 40)
    clock.now += 10.1
    with pytest.raises(TransportTimeout, match="too slow for 10 s"):
        rate.timeout()


def test_description_names_the_seconds_and_the_flag() -> None:
    assert Deadline(0.5).describe() == "longer than 0.5 s; increase --timeout"
    assert IdleTimeout(2, "--x").describe() == "longer than 2 s; increase --x"
    assert MinimumRate(3, "--y", 1).describe() == "longer than 3 s; increase --y"
    assert Deadline(1, None).describe() == "longer than 1 s"
    assert NEVER.describe() == "too long"
