"""A fair, time-sliced semaphore: the sessions that want a device take turns.

A few compute at the same time, as the system shares the processor out among them. Where
more want to, whoever waits longest is next, and a graph that takes long makes room
between two nodes: a short one need not wait for its end.
"""

from __future__ import annotations

import time
from collections import deque
from threading import Lock

from ggrpc.errors import Cancelled

# Sessions that compute at the same time. Two or three fill each other's gaps, and with
# hundreds a new client's HELLO would wait for Python's lock behind all of them.
SLOTS = 4
# Seconds that one may stay while others wait: long beside a switch of threads, which
# empties the processor's caches, and short beside what a user notices.
SLICE_SECONDS = 0.05


class FairSemaphore:
    """The sessions that compute on one device at the same time.

    Args:
        slots: how many may have it at the same time.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._lock = Lock()  # guards the two below
        self._free = slots
        self._waiting: deque[Lock] = deque()
        self.stopped = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def stop(self) -> None:
        """Make every graph give up at its next checkpoint."""
        self.stopped = True

    def acquire(self) -> None:
        """Wait for a seat."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def release(self) -> None:
        """Give the seat to whoever waits longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class Slice:
    """One session's turn: it has the device inside this context.

    Args:
        semaphore: those on the device.
    """

    def __init__(self, semaphore: FairSemaphore) -> None:
        self._semaphore = semaphore
        self._until = 0.0

    def __enter__(self) -> Slice:
        self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        self._semaphore.release()

    def checkpoint(self) -> None:
        """Let another go first, if one waits and this has been long enough.

        Raises:
            Cancelled: the server has no time left for this graph.
        """
        semaphore = self._semaphore
        if semaphore.stopped:
            raise Cancelled("the server stops: the graph was given up")
        if semaphore.waiting and time.monotonic() > self._until:
            semaphore.release()
            self._begin()

    def _begin(self) -> None:
        self._semaphore.acquire()
        self._until = time.monotonic() + SLICE_SECONDS
