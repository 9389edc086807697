"""Slows down the acceptance of strangers while sessions compute, to a time budget.

Strangers are connections that have never allocated memory: health checks, probes and
port scanners. To accept one, answer its HELLO and close it is cheap, but thousands at
once would compete with the sessions for the GIL.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

SHARE = 0.2  # of one processor
# Seconds of processor time that strangers may save up: enough for some hundred
# connections, so that a cluster whose clients start together is not delayed.
BURST = 0.1
MAX_SLEEP = 0.05  # seconds; a server that stops does not wait longer


class StrangerBudget:
    """The processor time that strangers may use; thread-safe.

    Args:
        is_needed: whether sessions compute; if not, strangers may use all the time.
    """

    def __init__(self, is_needed: Callable[[], bool]) -> None:
        self._is_needed = is_needed
        self._lock = Lock()  # guards _credit and _at
        self._credit = BURST
        self._at = time.monotonic()

    def spend(self, seconds: float) -> None:
        """Count processor time that was used for strangers."""
        with self._lock:
            self._credit -= seconds

    def delay(self) -> float:
        """How many seconds strangers have to wait now, at most MAX_SLEEP."""
        now = time.monotonic()
        with self._lock:
            earned = (now - self._at) * SHARE
            self._credit, self._at = min(BURST, self._credit + earned), now
            if self._credit >= 0:
                return 0.0
            if not self._is_needed():
                self._credit = 0.0
                return 0.0
            return min(MAX_SLEEP, -self._credit / SHARE)


class Pacer:
    """Makes the thread that accepts connections sleep when the budget is spent.

    Args:
        budget: the budget, which counts all processor time of this thread.
    """

    def __init__(self, budget: StrangerBudget) -> None:
        self._budget = budget
        self._used = 0.0

    def __call__(self) -> None:
        """Count the time since the last call, and sleep if it was too much."""
        used = time.thread_time()
        # The first call, or one from another thread, has no time to compare with.
        self._budget.spend(max(0.0, used - (self._used or used)))
        self._used = used
        if delay := self._budget.delay():
            time.sleep(delay)
