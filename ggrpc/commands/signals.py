"""Signals for commands that run until they are stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

STOPPING = signal.SIGINT, signal.SIGTERM


def at_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at the first signal; the next one ends the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        for one in STOPPING:
            signal.signal(one, signal.SIG_DFL)
        stop()

    for number in STOPPING:
        signal.signal(number, handle)


def at_hangup(reload: Callable[[], None]) -> None:
    """Call `reload` at each SIGHUP, which would end the process otherwise."""
    signal.signal(signal.SIGHUP, lambda number, frame: reload())
