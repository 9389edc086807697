from __future__ import annotations

import threading
import time

import pytest

from ggrpc.engine.server import fair_share as module
from ggrpc.engine.server.fair_share import Turn, Turns
from ggrpc.errors import Cancelled


def started(function) -> threading.Thread:  # type: ignore[no-untyped-def]
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def waiting(turns: Turns, count: int) -> None:
    """Wait until so many wait for their turn."""
    deadline = time.monotonic() + 10
    while turns.awaited < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_whoever_waits_longest_is_next() -> None:
    turns, order, threads = Turns(seats=1), [], []

    def work(number: int) -> None:
        with Turn(turns):
            order.append(number)

    with Turn(turns):
        for number in range(5):
            threads.append(started(lambda number=number: work(number)))
            waiting(turns, number + 1)
    for thread in threads:
        thread.join(10)
    assert order == list(range(5))


def test_long_turn_makes_room_at_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.0)
    turns, order = Turns(seats=1), []

    def short() -> None:
        with Turn(turns):
            order.append("short")

    with Turn(turns) as turn:
        turn.pause()
        order.append("begun")
        thread = started(short)
        waiting(turns, 1)
        turn.pause()
        order.append("ended")
    thread.join(10)
    assert order == ["begun", "short", "ended"]


def test_short_turn_is_not_interrupted() -> None:
    turns, order = Turns(seats=1), []

    def other() -> None:
        with Turn(turns):
            order.append("other")

    with Turn(turns) as turn:
        thread = started(other)
        waiting(turns, 1)
        turn.pause()
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_turn_that_fails_passes_the_device_on() -> None:
    turns = Turns(seats=1)
    with pytest.raises(ZeroDivisionError), Turn(turns):
        raise ZeroDivisionError
    with Turn(turns):
        pass


def test_stop_ends_a_turn_at_its_pause() -> None:
    turns = Turns(seats=1)
    turns.stop()
    with pytest.raises(Cancelled, match="the server stops"), Turn(turns) as turn:
        turn.pause()


def test_several_have_the_device_at_once() -> None:
    turns = Turns(seats=2)
    with Turn(turns), Turn(turns):
        thread = started(lambda: Turn(turns).__enter__())
        waiting(turns, 1)
    thread.join(10)
