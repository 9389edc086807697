"""Deadlines and other time limits for operations on a stream: idle time and rate."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from ggrpc.errors import TransportTimeout

# The average rate that a peer must reach while it sends or receives data. Every network
# that is used to split a model is faster. A peer that is slower only occupies a thread.
MIN_BYTES_PER_SECOND = 16 << 10
# What an answer may take on average: more than any network needs for a small one.
ANSWER_SECONDS = 1.0


class TimeLimit(ABC):
    """A limit that a stream obeys while it receives or sends.

    The stream calls `timeout` before each system call and `moved` after it.
    """

    @abstractmethod
    def timeout(self) -> float | None:
        """The seconds that the next call may block, None for no limit.

        Raises:
            TransportTimeout: the limit has been exceeded.
        """

    @abstractmethod
    def moved(self, count: int) -> None:
        """Record that a call received or sent `count` bytes."""

    @abstractmethod
    def describe(self) -> str:
        """The limit in words, as the end of the sentence 'the operation took ...'."""


class _Timeout(TimeLimit):
    """A number of seconds, and the moment at which they have passed.

    Args:
        seconds: the time from now, None for no limit.
        flag: the command-line flag that sets the limit, for messages.
    """

    def __init__(self, seconds: float | None, flag: str | None = "--timeout") -> None:
        self.seconds = seconds
        self._flag = flag
        self._end = None if seconds is None else time.monotonic() + seconds

    def timeout(self) -> float | None:
        """The seconds left, None for no limit.

        Raises:
            TransportTimeout: no time is left.
        """
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise TransportTimeout(f"no answer within {self.seconds:g} s")
        return left

    def describe(self) -> str:
        """The limit and the flag that sets it."""
        return _longer_than(self.seconds, self._flag)


class Deadline(_Timeout):
    """An overall limit: a moment at which an operation fails."""

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self._end is not None and time.monotonic() >= self._end

    def before(self, seconds: float) -> Deadline:
        """A deadline that ends `seconds` earlier, but at most a tenth of the limit.

        Its messages name the whole limit.
        """
        sooner = Deadline(self.seconds, self._flag)
        if self._end is not None and self.seconds is not None:
            sooner._end = self._end - min(seconds, self.seconds / 10)
        return sooner

    def moved(self, count: int) -> None:
        """Do nothing: an overall limit does not depend on progress."""


class IdleTimeout(_Timeout):
    """An idle limit, for data of any size.

    Each byte extends the limit by the time that it takes at `rate`, up to `seconds`
    from now. So a peer that sends single bytes, each just in time, exceeds it at last.

    Args:
        seconds: how long the peer may pause, None for no limit.
        flag: the command-line flag that sets the limit, for messages.
        rate: the bytes per second that the peer must reach on average.
    """

    def __init__(
        self,
        seconds: float | None,
        flag: str | None = "--timeout",
        rate: float = MIN_BYTES_PER_SECOND,
    ) -> None:
        super().__init__(seconds, flag)
        self._rate = rate

    def moved(self, count: int) -> None:
        """Extend the limit by the time for `count` bytes."""
        if self._end is not None and self.seconds is not None:
            latest = time.monotonic() + self.seconds
            self._end = min(self._end + count / self._rate, latest)


class SharedTimeout(IdleTimeout):
    """An idle limit of many requests together, of which only the waiting counts.

    Each answer extends it by `ANSWER_SECONDS`, or by a tenth of the limit if that is
    less. A server whose every answer comes just in time exceeds it in the end.

    Args:
        seconds: how long the peer may pause, None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        super().__init__(seconds)
        self._left = seconds

    def resume(self, renewed: bool = False) -> None:
        """Count from here on.

        Args:
            renewed: whether to start again with all seconds.
        """
        if renewed:
            self._left = self.seconds
        if self._left is not None:
            self._end = time.monotonic() + self._left

    def pause(self) -> None:
        """Do not count the time until `resume`."""
        if self._end is not None:
            self._left = self._end - time.monotonic()

    def answered(self) -> None:
        """Extend the limit by an answer."""
        if self._end is not None and self.seconds is not None:
            latest = time.monotonic() + self.seconds
            earned = min(ANSWER_SECONDS, self.seconds / 10)
            self._end = min(self._end + earned, latest)


class MinimumRate(TimeLimit):
    """A limit on slowness: each byte extends it, so that a peer must keep sending.

    The limit is never more than `seconds` away, so a fast start earns no later pause.

    Args:
        seconds: how long the peer may pause.
        flag: the command-line flag that sets the limit, for messages.
        rate: the bytes per second that the peer must reach on average.
    """

    def __init__(self, seconds: float, flag: str, rate: float) -> None:
        self._seconds = seconds
        self._flag = flag
        self._rate = rate
        self._end = time.monotonic() + seconds

    def timeout(self) -> None:
        """Return None: `Stream.set_call_timeout` limits single calls.

        Raises:
            TransportTimeout: the peer is too slow.
        """
        if time.monotonic() > self._end:
            raise TransportTimeout(f"too slow for {self._seconds:g} s")

    def moved(self, count: int) -> None:
        """Extend the limit by the time for `count` bytes."""
        latest = time.monotonic() + self._seconds
        self._end = min(self._end + count / self._rate, latest)

    def describe(self) -> str:
        """The limit and the flag that sets it."""
        return _longer_than(self._seconds, self._flag)


def _longer_than(seconds: float | None, flag: str | None) -> str:
    if seconds is None:
        return "too long"
    advice = f"; increase {flag}" if flag else ""
    return f"longer than {seconds:g} s{advice}"


NEVER = Deadline(None)
