"""Handles SIGINT, SIGTERM and SIGHUP, and blocks Ctrl-C while drivers are used."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = signal.SIGINT, signal.SIGTERM


@contextmanager
def interrupts_blocked() -> Iterator[Callable[[], None]]:
    """Block SIGINT until the end of the context.

    Ctrl-C goes to child processes too, and an OpenCL driver aborts if its linker dies.
    Threads and child processes that are started in the context block it as well.

    Yields:
        A function that raises KeyboardInterrupt if Ctrl-C was pressed.
    """

    def check() -> None:
        if signal.SIGINT in signal.sigpending():
            signal.sigwait({signal.SIGINT})
            raise KeyboardInterrupt

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield check
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
