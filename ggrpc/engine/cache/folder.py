"""The folder of a cache: one file for each entry, named by its hash as in llama.cpp.

Several servers may share a folder, llama.cpp's server included. Locks are `flock`s,
which the kernel releases when a process dies:

- The lock of the folder is held while space is freed for a new entry, and while an
  entry is renamed.
- An entry that is being written is a `.part` file, locked by its writer. A `.part` file
  without a lock was left by a process that died, and is removed.
- An entry that is being read is locked by its reader, and is not removed.

This module does not read the contents of the files.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

NAME = re.compile(r"[0-9a-f]{16}")
PART = ".part"
LOCK = ".ggrpc.lock"


class CacheEntry(NamedTuple):
    """A file of the cache.

    Attributes:
        name: the hash of the bytes, 16 hexadecimal digits.
        size: the size in bytes.
        mtime_ns: the time of the last write, in nanoseconds since 1970.
        atime_ns: the time of the last use, in nanoseconds since 1970.
    """

    name: str
    size: int
    mtime_ns: int
    atime_ns: int


def default_folder() -> Path:
    """The folder of the cache of llama.cpp's rpc-server on this machine."""
    if llama := os.environ.get("LLAMA_CACHE"):
        return Path(llama) / "rpc"
    if sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "llama.cpp" / "rpc"


class Folder:
    """The files of a cache.

    Args:
        path: the folder.
        create: whether to create it if it does not exist; if False, a missing folder
            counts as empty.

    Raises:
        OSError: the folder cannot be created.
    """

    def __init__(self, path: Path, create: bool = True) -> None:
        if create:
            path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def default_limit(self) -> int:
        """A tenth of the size of the disk, in bytes."""
        return shutil.disk_usage(self.path).total // 10

    def entries(self) -> list[CacheEntry]:
        """All entries, in no particular order."""
        return self._scan()[0]

    def begin(self, size: int, limit: int) -> tuple[int, Path] | None:
        """Start an entry; removes least recently used entries to make room.

        Args:
            size: the size of the entry in bytes.
            limit: the maximum size of all entries in bytes, including this one.

        Returns:
            The descriptor of the file, which is locked and has that size, and its path.
            None if the entries in use do not leave enough room.

        Raises:
            OSError: the folder cannot be written.
        """
        with self.locked():
            entries, parts = self._scan(clean=True)
            room = limit - size - parts
            if room < 0 or self._shrink(entries, room)[1] > room:
                return None
            path = self.path / f".{secrets.token_hex(8)}{PART}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.ftruncate(fd, size)  # so that other processes count it
            except OSError:
                os.close(fd)
                path.unlink()
                raise
            return fd, path

    def publish(self, part: Path, name: str) -> None:
        """Rename a complete `.part` file, which must be synced to the disk."""
        with self.locked():  # so that a scan finds the entry exactly once
            os.replace(part, self.path / name)
        fd = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def prune(
        self, limit: int | None, older_than: float | None, dry_run: bool = False
    ) -> list[CacheEntry]:
        """Remove old entries, then the least recently used ones.

        Args:
            limit: the maximum size of the rest in bytes; None for no limit.
            older_than: the age in seconds since the last use above which entries are
                removed; None for no limit.
            dry_run: remove nothing.

        Returns:
            The removed entries; in a dry run, those that would be removed.
        """
        with nullcontext() if dry_run else self.locked():
            removed: list[CacheEntry] = []
            entries, parts = self._scan()
            if older_than is not None:
                newest = time.time_ns() - int(older_than * 1e9)
                old = [entry for entry in entries if entry.atime_ns < newest]
                removed = [entry for entry in old if dry_run or self.remove(entry.name)]
                entries = list(set(entries).difference(removed))
            if limit is not None:
                removed += self._shrink(entries, limit - parts, dry_run)[0]
            return removed

    def remove(self, name: str) -> bool:
        """Remove an entry; returns False if it is in use."""
        path = self.path / name
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:
            # It is missing or unreadable, so nothing reads it.
            path.unlink(missing_ok=True)
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the folder against other processes and threads."""
        fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _scan(self, clean: bool = False) -> tuple[list[CacheEntry], int]:
        """The entries, and the total size in bytes of those being written.

        Args:
            clean: remove the files that dead writers left.
        """
        entries: list[CacheEntry] = []
        parts = 0
        if not self.path.exists():
            return entries, parts
        with os.scandir(self.path) as files:
            for file in files:
                is_part = file.name.endswith(PART)
                if not is_part and not NAME.fullmatch(file.name):
                    continue
                if is_part and clean and self.remove(file.name):
                    continue
                try:
                    stat = file.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # another process removed it
                if is_part:
                    parts += stat.st_size
                elif S_ISREG(stat.st_mode):
                    times = stat.st_mtime_ns, stat.st_atime_ns
                    entries.append(CacheEntry(file.name, stat.st_size, *times))
        return entries, parts

    def _shrink(
        self, entries: list[CacheEntry], limit: int, dry_run: bool = False
    ) -> tuple[list[CacheEntry], int]:
        """Remove the least recently used entries until the rest fits.

        Args:
            entries: the entries.
            limit: the maximum size of the remaining entries in bytes.
            dry_run: remove nothing.

        Returns:
            The removed entries, and the size of the remaining ones.
        """
        total = sum(entry.size for entry in entries)
        removed: list[CacheEntry] = []
        if total <= limit:
            return removed, total
        for entry in sorted(entries, key=lambda entry: entry.atime_ns):
            if total <= limit:
                break
            if dry_run or self.remove(entry.name):
                removed.append(entry)
                total -= entry.size
        return removed, total
