"""A fair, time-sliced semaphore for sessions that share a device.

A few sessions compute at the same time, and the system divides the processor among
them. The others wait in order of arrival. A long graph releases its slot between two
nodes, so that a short graph does not wait for its end.
"""

from __future__ import annotations

import math
import time
from collections import deque
from threading import Lock

from ggrpc.errors import Cancelled

# Sessions that compute at the same time. Two or three fill each other's gaps. With
# hundreds, a new client's HELLO would wait for the GIL behind all of them.
SLOTS = 4
# How long a session may keep a slot while others wait: long compared with the cost of a
# thread switch, which empties the processor's caches, but too short for a user to see.
SLICE_SECONDS = 0.05
# How long a client may pause between two graphs and still count as computing.
IN_USE_SECONDS = 1.0


class FairSemaphore:
    """A semaphore that serves waiting threads in order of arrival.

    Args:
        slots: how many threads may hold the semaphore at the same time.

    Attributes:
        stopped: whether `stop` was called.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._lock = Lock()  # guards _free, _waiting and _released_at
        self._slots = slots
        self._free = slots
        self._waiting: deque[Lock] = deque()
        self._released_at = -math.inf
        self.stopped = False

    @property
    def is_in_use(self) -> bool:
        """Whether a thread holds a slot, or has held one within IN_USE_SECONDS."""
        is_recent = time.monotonic() - self._released_at < IN_USE_SECONDS
        return self._free < self._slots or is_recent

    @property
    def waiting(self) -> int:
        """The number of threads that wait for a slot."""
        return len(self._waiting)

    def stop(self) -> None:
        """Make every graph that runs fail at its next checkpoint."""
        self.stopped = True

    def acquire(self) -> None:
        """Wait for a slot."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # until `release` of another thread unlocks it

    def release(self) -> None:
        """Pass the slot to the thread that has waited longest, if any."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
                self._released_at = time.monotonic()


class Slice:
    """A context that holds a slot of a semaphore, and gives it up at checkpoints.

    Args:
        semaphore: the semaphore.
    """

    def __init__(self, semaphore: FairSemaphore) -> None:
        self._semaphore = semaphore
        self._until = 0.0

    def __enter__(self) -> Slice:
        self._begin()
        try:
            self._check_stopped()
        except Cancelled:
            self._semaphore.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._semaphore.release()

    def checkpoint(self) -> None:
        """Pass the slot on and wait again, if others wait and the slice is over.

        Raises:
            Cancelled: the server is stopping.
        """
        semaphore = self._semaphore
        self._check_stopped()
        if semaphore.waiting and time.monotonic() > self._until:
            semaphore.release()
            self._begin()
            self._check_stopped()

    def _begin(self) -> None:
        self._semaphore.acquire()
        self._until = time.monotonic() + SLICE_SECONDS

    def _check_stopped(self) -> None:
        if self._semaphore.stopped:
            raise Cancelled("the server stops: the graph was cancelled")
