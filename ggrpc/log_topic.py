"""The topics of log lines about clients; the log limits the lines of each topic."""

from __future__ import annotations

from enum import Enum


class Topic(str, Enum):
    """The field `topic` of a log record.

    Without one, warnings and errors are REASONS, and the others TRAFFIC.
    """

    TRAFFIC = "traffic"  # connections come and go
    STRANGERS = "strangers"  # a connection was refused before it had a session
    REASONS = "reasons"  # why a session ended, or a request was refused
