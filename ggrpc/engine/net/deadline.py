"""One time budget for all the steps of an operation."""

from __future__ import annotations

import time

from ggrpc.errors import TransportTimeout


class Deadline:
    """A moment after which an operation gives up.

    Args:
        seconds: from now, or None for never.
        flag: what gives it more time, for messages.
    """

    def __init__(self, seconds: float | None, flag: str = "--timeout") -> None:
        self.seconds = seconds
        self.flag = flag
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

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self._end is not None and time.monotonic() >= self._end

    def moved(self, count: int) -> None:
        """So many bytes have come or gone: a deadline does not care."""


class IdleTimeout(Deadline):
    """A deadline for data of any size: so many seconds after the last byte moved."""

    def moved(self, count: int) -> None:
        if self.seconds is not None:
            self._end = time.monotonic() + self.seconds


class MinimumRate(Deadline):
    """A deadline that bytes put off: for a peer that must keep on, whatever the size.

    It is never further away than at the start, so a fast beginning earns no pause.

    Args:
        seconds: that it may stall.
        flag: what gives it more time, for messages.
        rate: bytes a second that it must manage.
    """

    def __init__(self, seconds: float, flag: str, rate: float) -> None:
        super().__init__(seconds, flag)
        self._seconds = seconds
        self._late_at = time.monotonic() + seconds
        self._rate = rate

    def left(self) -> None:
        """Nothing: single calls are limited by `Stream.give_up_after`.

        Raises:
            TransportTimeout: the peer is too slow.
        """
        if time.monotonic() > self._late_at:
            raise TransportTimeout(f"too slow for {self._seconds:g} s")

    def moved(self, count: int) -> None:
        latest = time.monotonic() + self._seconds
        self._late_at = min(self._late_at + count / self._rate, latest)


NEVER = Deadline(None)
