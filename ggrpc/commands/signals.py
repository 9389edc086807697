"""Handles SIGINT, SIGTERM and SIGHUP."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

STOPPING = signal.SIGINT, signal.SIGTERM
AGAIN_SECONDS = 0.001  # after which a lost KeyboardInterrupt is raised again


@contextmanager
def interrupts_raised() -> Iterator[None]:
    """Make Ctrl-C raise KeyboardInterrupt, also where Python would lose it.

    Python prints and drops an exception in a finalizer or in the callback of a weak
    reference, of which imports have many. It is raised again a moment later.

    Raises:
        KeyboardInterrupt: one was lost at the very end of the context.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:  # the parent does not want it
        yield
        return

    def raise_again(lost: UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        else:
            sys.__unraisablehook__(lost)

    sys.unraisablehook = raise_again
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        seconds, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        sys.unraisablehook = sys.__unraisablehook__
        if seconds:
            raise KeyboardInterrupt


@contextmanager
def interrupts_deadly() -> Iterator[None]:
    """Make Ctrl-C end the process at once, while there is nothing to clean up.

    Modules may suppress a KeyboardInterrupt while they are imported.
    """
    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def at_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at the first signal; the next one ends the process at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        for one in STOPPING:
            signal.signal(one, signal.SIG_DFL)
        stop()

    for number in STOPPING:
        signal.signal(number, handle)


def at_hangup(reload: Callable[[], None], stop: Callable[[], None]) -> None:
    """Call `reload` at each SIGHUP, or `stop` if the terminal was closed.

    A process that has no terminal, because of systemd or nohup, goes on.
    """
    had_terminal = _has_terminal()

    def handle(number: int, frame: FrameType | None) -> None:
        if had_terminal and not _has_terminal():
            stop()
        else:
            reload()

    signal.signal(signal.SIGHUP, handle)


def _has_terminal() -> bool:
    """Whether a standard stream is a terminal; none is after it was closed."""
    return any(map(os.isatty, range(3)))
