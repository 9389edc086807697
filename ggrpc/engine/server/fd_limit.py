"""Raises the process's limit on open files, which bounds the number of connections."""

from __future__ import annotations

import logging
import resource

# Open files besides connections: listeners, devices, libraries and the cache.
OTHER_FILES = 128

log = logging.getLogger(__name__)


def clients_that_fit(wanted: int) -> int:
    """Raise the limit on open files as far as needed, and as the system allows.

    Returns:
        How many of the wanted connections fit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    needed = wanted + OTHER_FILES
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # macOS has a lower limit of its own
            soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == unlimited or soft >= needed:
        return wanted
    fitting = soft - min(OTHER_FILES, soft // 2)
    log.warning(
        "%d clients at most: the limit on open files is %d; raise it with ulimit -n",
        *(fitting, soft),
    )
    return fitting
