"""How many files this process may have open, of which each connection is one."""

from __future__ import annotations

import logging
import resource

# For listeners, devices, libraries and what they load.
OTHERS = 128

log = logging.getLogger(__name__)


def clients_that_fit(wanted: int) -> int:
    """How many connections there may be, of those wanted.

    Raises the process's limit as far as it needs and the system allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = wanted + OTHERS
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # macOS has a limit of its own
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == unlimited or soft >= needed:
        return wanted
    fitting = soft - min(OTHERS, soft // 2)
    log.warning("%d clients at most: the limit of open files is %d", fitting, soft)
    return fitting
