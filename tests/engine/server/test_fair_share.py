from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ggrpc.engine.server import fair_share as module
from ggrpc.engine.server.fair_share import FairSemaphore, Slice
from ggrpc.errors import Cancelled
from tests.support.waiting import wait_until


def started(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


def wait_for_waiting(semaphore: FairSemaphore, count: int) -> None:
    """Return when `count` threads wait for a slot."""
    wait_until(lambda: semaphore.waiting == count)


def test_threads_get_the_slot_in_order_of_arrival() -> None:
    semaphore, order, threads = FairSemaphore(slots=1), [], []

    def work(number: int) -> None:
        with Slice(semaphore):
            order.append(number)

    with Slice(semaphore):
        for number in range(5):
            threads.append(started(lambda number=number: work(number)))
            wait_for_waiting(semaphore, number + 1)
    for thread in threads:
        thread.join(10)
    assert order == list(range(5))


def test_slice_that_is_over_passes_the_slot_on_at_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLICE_SECONDS", 0.0)
    semaphore, order = FairSemaphore(slots=1), []

    def short() -> None:
        with Slice(semaphore):
            order.append("short")

    with Slice(semaphore) as time_slice:
        time_slice.checkpoint()
        order.append("begun")
        thread = started(short)
        wait_for_waiting(semaphore, 1)
        time_slice.checkpoint()
        order.append("ended")
    thread.join(10)
    assert order == ["begun", "short", "ended"]


def test_slice_that_is_not_over_keeps_the_slot_at_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SLICE_SECONDS", 1000.0)
    semaphore, order = FairSemaphore(slots=1), []

    def other() -> None:
        with Slice(semaphore):
            order.append("other")

    with Slice(semaphore) as time_slice:
        thread = started(other)
        wait_for_waiting(semaphore, 1)
        time_slice.checkpoint()
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_slice_that_fails_releases_the_slot() -> None:
    semaphore = FairSemaphore(slots=1)
    with pytest.raises(ZeroDivisionError), Slice(semaphore):
        raise ZeroDivisionError
    with Slice(semaphore):
        pass


def test_stop_cancels_who_waits_for_a_slot() -> None:
    semaphore = FairSemaphore(1)
    semaphore.stop()
    for _ in range(2):  # the slot is free again
        with pytest.raises(Cancelled), Slice(semaphore):
            pytest.fail("it ran")


def test_stop_cancels_a_slice_at_its_checkpoint() -> None:
    semaphore = FairSemaphore(slots=1)
    semaphore.stop()
    with (
        pytest.raises(Cancelled, match="the server stops"),
        Slice(semaphore) as time_slice,
    ):
        time_slice.checkpoint()


def test_third_thread_waits_until_one_of_two_slots_is_free() -> None:
    semaphore, entered, leave = FairSemaphore(2), threading.Event(), threading.Event()

    def third() -> None:
        with Slice(semaphore):
            entered.set()
            leave.wait(10)

    with Slice(semaphore):
        with Slice(semaphore):
            thread = started(third)
            wait_for_waiting(semaphore, 1)
            assert not entered.is_set()
        assert entered.wait(10)
        assert semaphore.waiting == 0
        leave.set()
    thread.join(10)
