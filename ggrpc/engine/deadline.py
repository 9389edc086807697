"""One time budget for all the steps of an operation."""

from __future__ import annotations

import time

from ggrpc.errors import TransportTimeout


class Deadline:
    """A moment after which an operation gives up.

    Args:
        seconds: from now, or None for never.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        """The seconds left, None for no limit.

        Raises:
            TransportTimeout: none.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise TransportTimeout(f"no answer within {self.seconds:g} s")
        return left


NEVER = Deadline(None)
