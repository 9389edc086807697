"""Keeps signals that end this process away from the child processes of drivers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

# A terminal and a supervisor send these to the child processes too.
ENDING = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block the signals that end a process, in this thread, until the context ends.

    PoCL runs a linker when a kernel is built or launched for the first time, and aborts
    if the linker dies. The linker, and the driver's threads that start it, inherit
    the blocked signals. It can decorate a function, too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
