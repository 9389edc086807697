"""What a limit of address space (`ulimit -v`, systemd's LimitAS) means for threads.

Each connection that sends requests has a thread. glibc reserves its stack, usually of
8 MiB, and an arena of 64 MiB for it, which buffers would then lack.
"""

from __future__ import annotations

import ctypes
import logging
import resource
from contextlib import suppress

from ggrpc.units import format_size

M_ARENA_MAX = -8  # a parameter of mallopt, from malloc.h of glibc
MAX_ARENAS = 2
STACK = 8 << 20  # of a thread, if there is no limit that sets it
STACKS_PART = 4  # the stacks may take a quarter of the address space

log = logging.getLogger(__name__)


def limit_arenas() -> None:
    """Let threads share arenas, if the address space of this process is limited."""
    if _soft(resource.RLIMIT_AS) is None:
        return
    with suppress(AttributeError):  # other C libraries have no arenas
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, MAX_ARENAS)


def clients_with_stacks(wanted: int) -> int:
    """How many of the wanted connections the limit of address space allows.

    Otherwise idle strangers take what sessions at work need for their next buffer.
    """
    limit = _soft(resource.RLIMIT_AS)
    if limit is None:
        return wanted
    stack = _soft(resource.RLIMIT_STACK) or STACK
    fitting = max(1, limit // STACKS_PART // stack)
    if fitting >= wanted:
        return wanted
    log.warning(
        "%d clients at most: the address space is limited to %s, and each one takes "
        "%s of it; raise it with ulimit -v",
        *(fitting, format_size(limit), format_size(stack)),
    )
    return fitting


def _soft(what: int) -> int | None:
    """A limit of this process; None if there is none."""
    soft, _ = resource.getrlimit(what)
    return None if soft == resource.RLIM_INFINITY else soft
