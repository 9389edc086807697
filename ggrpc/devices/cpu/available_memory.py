"""Measures the memory that this process may use, on the machine or in a container.

Limits of this process (`ulimit -v` and `-d`, systemd's LimitAS) count mapped memory,
used or not, and make a mapping fail. A process that exceeds the limit of its container
is killed, even if the machine has free memory. Sources: Linux's documentation of
control groups, cgroup-v1/memory.rst and cgroup-v2.rst; getrlimit(2).
"""

from __future__ import annotations

import resource
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


# Mapped memory that stays free for threads (their stacks, and the C library's arenas):
# this fraction of a limit, but at most this many bytes.
THREAD_RESERVE = 1 / 8
MAX_THREAD_RESERVE = 512 << 20
# The limits of mapped memory, and psutil's name of the memory that each one counts.
_MAPPED = {resource.RLIMIT_AS: "vms", resource.RLIMIT_DATA: "data"}


class _Names(NamedTuple):
    """The names of the files, and of a line in memory.stat, in a version of cgroups."""

    limit: str
    used: str
    reclaimable: str


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Names("memory.max", "memory.current", "inactive_file")


class MachineMemory:
    """The memory of the machine, within the limits of control groups.

    Attributes:
        total: the total memory in bytes.
    """

    def __init__(self) -> None:
        physical: int = psutil.virtual_memory().total
        self._groups = [
            (folder, names, limit)
            for folder, names in _groups()
            if (limit := _number(folder / names.limit)) and limit < physical
        ]
        self.total = min([physical, *(limit for _, _, limit in self._groups)])
        if (mappable := self.mappable()) is not None:
            self.total = min(self.total, mappable)

    def mappable(self) -> int | None:
        """The number of bytes that this process may still map; None for no limit."""
        left = []
        for limit, field in _MAPPED.items():
            size, _ = resource.getrlimit(limit)
            if size == resource.RLIM_INFINITY:
                continue
            used = getattr(psutil.Process().memory_info(), field, 0)
            reserve = min(int(size * THREAD_RESERVE), MAX_THREAD_RESERVE)
            left.append(size - used - reserve)
        return max(0, min(left)) if left else None

    def available(self) -> int:
        """The number of bytes that can be allocated without exceeding a limit."""
        machine: int = psutil.virtual_memory().available
        left = [limit - _used(folder, names) for folder, names, limit in self._groups]
        return max(0, min([machine, *left]))


def _groups() -> list[tuple[Path, _Names]]:
    """The control groups of this process and all their parents."""
    found: list[tuple[Path, _Names]] = []
    for line in _read(MEMBERSHIP).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (ROOT / "memory", _V1) if controllers else (ROOT, _V2)
        folder = root / path.lstrip("/")
        groups = (folder, *folder.parents)
        found += [(g, names) for g in groups if g.is_relative_to(root)]
    return found


def _used(folder: Path, names: _Names) -> int:
    """The number of bytes in use that the kernel cannot reclaim."""
    used = _number(folder / names.used) or 0
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == names.reclaimable:
            used -= int(value)
    return used


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None  # "max" means no limit


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
