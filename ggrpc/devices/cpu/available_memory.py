"""The memory that this process may use: that of the machine, or of its container.

A process that exceeds the limit of its container is killed, even if the machine has
free memory. Sources: Linux's documentation of control groups, cgroup-v1/memory.rst and
cgroup-v2.rst.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


class _Names(NamedTuple):
    """The names of files, and of a line of memory.stat, in a version of cgroups."""

    limit: str
    used: str
    reclaimable: str


_V1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Names("memory.max", "memory.current", "inactive_file")


class Machine:
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
