from __future__ import annotations

import threading
import time

import pytest

from ggrpc.engine.server import fair_share as module
from ggrpc.engine.server.fair_share import FairSemaphore, Slice
from ggrpc.errors import Cancelled


def started(function) -> threading.Thread:  # type: ignore[no-untyped-def]
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def waiting(turns: FairSemaphore, count: int) -> None:
    """Wait until so many wait for their turn."""
    deadline = time.monotonic() + 10
    while turns.waiting < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_whoever_waits_longest_is_next() -> None:
    turns, order, threads = FairSemaphore(slots=1), [], []

    def work(number: int) -> None:
        with Slice(turns):
            order.append(number)

    with Slice(turns):
        for number in range(5):
            threads.append(started(lambda number=number: work(number)))
            waiting(turns, number + 1)
    for thread in threads:
        thread.join(10)
    assert order == list(range(5))


def test_long_turn_makes_room_at_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    turns, order = FairSemaphore(slots=1), []

    def short() -> None:
        with Slice(turns):
            order.append("short")

    with Slice(turns) as turn:
        turn.checkpoint()
        order.append("begun")
        thread = started(short)
        waiting(turns, 1)
        turn.checkpoint()
        order.append("ended")
    thread.join(10)
    assert order == ["begun", "short", "ended"]


def test_short_turn_is_not_interrupted() -> None:
    turns, order = FairSemaphore(slots=1), []

    def other() -> None:
        with Slice(turns):
            order.append("other")

    with Slice(turns) as turn:
        thread = started(other)
        waiting(turns, 1)
        turn.checkpoint()
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_turn_that_fails_passes_the_device_on() -> None:
    turns = FairSemaphore(slots=1)
    with pytest.raises(ZeroDivisionError), Slice(turns):
        raise ZeroDivisionError
    with Slice(turns):
        pass


def test_stop_ends_a_turn_at_its_pause() -> None:
    turns = FairSemaphore(slots=1)
    turns.stop()
    with pytest.raises(Cancelled, match="the server stops"), Slice(turns) as turn:
        turn.checkpoint()


def test_several_have_the_device_at_once() -> None:
    turns = FairSemaphore(slots=2)
    with Slice(turns), Slice(turns):
        thread = started(lambda: Slice(turns).__enter__())
        waiting(turns, 1)
    thread.join(10)
