"""Limits the number of malloc's arenas, if the address space is limited.

glibc reserves 64 MiB of address space for the arena of each new thread. With a limit
(`ulimit -v`, systemd's LimitAS) the threads of a few clients would use up what the
buffers leave.
"""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress

M_ARENA_MAX = -8  # a parameter of mallopt, from malloc.h of glibc
MAX_ARENAS = 2


def limit_arenas() -> None:
    """Let threads share arenas, if the address space of this process is limited."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        return
    with suppress(AttributeError):  # other C libraries have no arenas
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, MAX_ARENAS)
