"""Keeps one peer from filling the log: some lines a second, and a count of the rest."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from threading import Lock, Timer, main_thread

from ggrpc.endpoint import Endpoint
from ggrpc.errors import ConfigError

MAX = 5  # lines for each peer
SECONDS = 1.0  # in that time

log = logging.getLogger(__name__)


@dataclass
class _Second:
    """What a peer was worth since its first line.

    Attributes:
        begun: when that was.
        lines: how many were written.
        left_out: how many were not.
    """

    begun: float
    lines: int = 0
    left_out: int = 0

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self.begun >= SECONDS


class FloodFilter(logging.Filter):
    """Lets through what is no flood. Lines of debugging are all let through."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()  # guards the two below
        self._seconds: dict[str, _Second] = {}
        self._timer: Timer | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be written."""
        host = _host_of(record)
        if host is None or record.levelno <= logging.DEBUG:
            return True
        with self._lock:
            second = self._seconds.get(host)
            if second is None or (second.is_over and not second.left_out):
                second = self._seconds[host] = _Second(time.monotonic())
            if second.lines < MAX:
                second.lines += 1
                self._watch()
                return True
            second.left_out += 1
            return False

    def close(self) -> None:
        """Say what is left to be said."""
        with self._lock:
            timer = self._timer
        if timer:
            timer.cancel()
            timer.join()
        self._summarize(at_once=True)

    def _watch(self) -> None:
        """See to it that what is left out is told of, and what is over forgotten."""
        if self._timer is not None:
            return
        timer = Timer(SECONDS, self._summarize)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return  # there is no thread for it: at the next line, there may be
        self._timer = timer

    def _summarize(self, at_once: bool = False) -> None:
        with self._lock:
            over = {h: s for h, s in self._seconds.items() if at_once or s.is_over}
            for host in over:
                del self._seconds[host]
            self._timer = None
            if self._seconds:
                self._watch()
        for host, second in over.items():
            if second.left_out:
                log.warning(
                    "%s: %d more lines like these were left out", host, second.left_out
                )


def _host_of(record: logging.LogRecord) -> str | None:
    """Whom a record is about; a session's thread has its peer's name."""
    peer = getattr(record, "peer", None)
    if peer is None and record.threadName != main_thread().name:
        peer = record.threadName
    try:
        return Endpoint.parse(peer).host if peer and record.name != __name__ else None
    except ConfigError:
        return None
