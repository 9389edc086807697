"""Limits the log lines per second about each host, and logs how many were omitted.

Each topic has its own limit. Lines about connections that come and go therefore cannot
suppress the line that says why a session was refused.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock, Timer, main_thread

from ggrpc.endpoint import Endpoint
from ggrpc.errors import ConfigError
from ggrpc.log_topic import Topic

MAX_LINES = 5  # per host, topic and interval
INTERVAL = 1.0  # seconds

log = logging.getLogger(__name__)


_Key = tuple[str, Topic]


@dataclass
class _Interval:
    """The counts of a host and a topic since the first line.

    Attributes:
        start: the time of the first line (`time.monotonic`).
        lines: the number of lines that were written.
        omitted: the number of lines that were omitted.
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
        self._intervals: dict[_Key, _Interval] = {}
        self._timer: Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a record; counts it as written or omitted."""
        host = _host_of(record)
        if host is None or record.levelno <= logging.DEBUG:
            return True
        key = host, _topic_of(record)
        with self._lock:
            interval = self._intervals.get(key)
            if interval is None or (interval.is_over and not interval.omitted):
                interval = self._intervals[key] = _Interval(time.monotonic())
            if interval.lines < MAX_LINES:
                interval.lines += 1
                self._start_timer()
                return True
            interval.omitted += 1
            return False

    def close(self) -> None:
        """Stop the timer, and log how many lines were omitted since it last ran."""
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
            over = {k: i for k, i in self._intervals.items() if all_hosts or i.is_over}
            for key in over:
                del self._intervals[key]
            self._timer = None
            if self._intervals:
                self._start_timer()
        for (host, _), interval in over.items():
            if interval.omitted:
                log.warning(
                    "%s: %d more lines like these were omitted", host, interval.omitted
                )


def _topic_of(record: logging.LogRecord) -> Topic:
    default = Topic.REASONS if record.levelno >= logging.WARNING else Topic.TRAFFIC
    return Topic(getattr(record, "topic", default))


def _host_of(record: logging.LogRecord) -> str | None:
    """The host that a record is about; threads of sessions are named after the peer."""
    peer = getattr(record, "peer", None)
    if peer is None and record.threadName != main_thread().name:
        peer = record.threadName
    try:
        return Endpoint.parse(peer).host if peer and record.name != __name__ else None
    except ConfigError:
        return None
