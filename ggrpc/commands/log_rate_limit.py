"""Limits the log lines of each host per second, and logs the number of omitted ones."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock, Timer, main_thread

from ggrpc.endpoint import Endpoint
from ggrpc.errors import ConfigError

MAX_LINES = 5  # per host and interval
INTERVAL = 1.0  # seconds

log = logging.getLogger(__name__)


@dataclass
class _Interval:
    """The counts of a host since its first line.

    Attributes:
        start: the time of the first line (`time.monotonic`).
        lines: the number of lines that were written.
        omitted: the number of lines that were not.
    """

    start: float
    lines: int = 0
    omitted: int = 0

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self.start >= INTERVAL


class RateLimitFilter(logging.Filter):
    """Limits the records about each host. Debug records are not limited."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()  # guards _intervals and _timer
        self._intervals: dict[str, _Interval] = {}
        self._timer: Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record."""
        host = _host_of(record)
        if host is None or record.levelno <= logging.DEBUG:
            return True
        with self._lock:
            interval = self._intervals.get(host)
            if interval is None or (interval.is_over and not interval.omitted):
                interval = self._intervals[host] = _Interval(time.monotonic())
            if interval.lines < MAX_LINES:
                interval.lines += 1
                self._start_timer()
                return True
            interval.omitted += 1
            return False

    def close(self) -> None:
        """Log the remaining numbers of omitted lines."""
        with self._lock:
            timer = self._timer
        if timer:
            timer.cancel()
            timer.join()
        self._summarize(all_hosts=True)

    def _start_timer(self) -> None:
        """Let a thread call `_summarize` after an interval."""
        if self._timer is not None:
            return
        timer = Timer(INTERVAL, self._summarize)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return  # no thread can be started; the next line tries again
        self._timer = timer

    def _summarize(self, all_hosts: bool = False) -> None:
        """Log the omitted lines of intervals that are over, or of all of them."""
        with self._lock:
            over = {h: i for h, i in self._intervals.items() if all_hosts or i.is_over}
            for host in over:
                del self._intervals[host]
            self._timer = None
            if self._intervals:
                self._start_timer()
        for host, interval in over.items():
            if interval.omitted:
                log.warning(
                    "%s: %d more lines like these were omitted", host, interval.omitted
                )


def _host_of(record: logging.LogRecord) -> str | None:
    """The host that a record is about; threads of sessions are named by their peer."""
    peer = getattr(record, "peer", None)
    if peer is None and record.threadName != main_thread().name:
        peer = record.threadName
    try:
        return Endpoint.parse(peer).host if peer and record.name != __name__ else None
    except ConfigError:
        return None
