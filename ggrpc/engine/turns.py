"""Lets the sessions that want a device have it in turns.

Whoever waits longest is next. A graph that takes long makes room between two nodes, so
that a short one need not wait for its end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from ggrpc.errors import Cancelled

# Seconds that one may keep a device while others wait: long beside a switch of threads,
# which empties the processor's caches, and short beside what a user notices.
LONGEST = 0.05


class Turns:
    """The turns on one device."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards the two below
        self._taken = False
        self._waiting: deque[Lock] = deque()
        self._until = 0.0
        self._stopped = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the device, and have it inside the context."""
        self._take()
        try:
            yield
        finally:
            self._pass_on()

    def pause(self) -> None:
        """Let others go first, if any wait and this turn has been long enough.

        Raises:
            Cancelled: the server has no time left for this graph.
        """
        if self._stopped:
            raise Cancelled("the server stops: the graph was given up")
        if self._waiting and time.monotonic() > self._until:
            self._pass_on()
            self._take()

    def stop(self) -> None:
        """Make every graph give up at its next pause."""
        self._stopped = True

    def _take(self) -> None:
        with self._lock:
            if self._taken:
                mine = Lock()
                mine.acquire()
                self._waiting.append(mine)
            else:
                self._taken, mine = True, None
        if mine:
            mine.acquire()
        self._until = time.monotonic() + LONGEST

    def _pass_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
