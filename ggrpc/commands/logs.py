"""Sets up the log of a command: lines of text, or one JSON object per line.

Messages may contain data from clients. Characters that are not visible are escaped, so
a client cannot forge a line. The number of lines about each host is limited.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum

from ggrpc.commands.environment import Environment
from ggrpc.commands.log_rate_limit import RateLimitFilter
from ggrpc.untrusted import printable, to_json


class LogLevel(str, Enum):
    """The lowest level of messages to log."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class LogFormat(str, Enum):
    """The format of log lines."""

    text = "text"
    json = "json"


@contextmanager
def logging_to(
    environment: Environment, level: LogLevel | None, style: LogFormat
) -> Iterator[None]:
    """Log to stderr inside the context.

    Args:
        environment: provides stderr, and the level if none is given.
        level: the lowest level to log.
        style: text or JSON.
    """
    formatter = TextFormatter if style is LogFormat.text else JsonFormatter
    handler = logging.StreamHandler(environment.stderr)
    handler.setFormatter(formatter(environment.debug))
    rate_limit = RateLimitFilter()
    handler.addFilter(rate_limit)
    log = logging.getLogger("ggrpc")
    before = log.level
    log.setLevel(_level(environment, level))
    log.addHandler(handler)
    try:
        yield
    finally:
        rate_limit.close()
        log.removeHandler(handler)
        log.setLevel(before)


def _level(environment: Environment, level: LogLevel | None) -> int:
    """The given level; without one, INFO, raised by one step for each --quiet."""
    if level is not None:
        return int(getattr(logging, level.name.upper()))
    return min(logging.INFO + 10 * environment.quiet, logging.ERROR)


class WarningHandler(logging.Handler):
    """Shows the warnings of a command that has no log.

    Args:
        environment: prints them.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(logging.WARNING)
        self._environment = environment

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message of a record."""
        self._environment.warn(record.getMessage())


class Formatter(logging.Formatter):
    """The base class of both formatters.

    Args:
        traces: whether to show tracebacks.
    """

    def __init__(self, traces: bool) -> None:
        super().__init__()
        self._traces = traces

    def message(self, record: logging.LogRecord) -> str:
        """The message, followed by the exception if there is one."""
        text = record.getMessage()
        if record.exc_info:
            kind, error, _ = record.exc_info
            name = kind.__name__ if kind else "no error"
            text += f" ({name}: {error})"
            text += "" if self._traces else "; --debug shows the traceback"
        return text

    def trace(self, record: logging.LogRecord) -> str:
        """The traceback, or an empty text if it is not shown."""
        if self._traces and record.exc_info:
            return self.formatException(record.exc_info)
        return ""


class TextFormatter(Formatter):
    """`2026-11-22 17:00:00 INFO message`, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as one line, and its traceback if it is shown."""
        when = self.formatTime(record, "%Y-%m-%d %H:%M:%S")
        line = f"{when} {record.levelname} {printable(self.message(record))}"
        trace = "\n".join(map(printable, self.trace(record).split("\n")))
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(Formatter):
    """One flat object per line; the time is in UTC, in ISO 8601."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as a JSON object."""
        when = datetime.fromtimestamp(record.created, timezone.utc)
        fields = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": self.message(record),
            "peer": getattr(record, "peer", None),
            "command": getattr(record, "command", None),
            "traceback": self.trace(record),
        }
        return to_json({key: value for key, value in fields.items() if value})
