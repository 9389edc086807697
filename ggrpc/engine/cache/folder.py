"""The folder of a cache: a file for each entry, named by its hash as llama.cpp does.

Several servers may share it, llama.cpp's own among them. Files are locked (`flock`), so
the locks of a process that was killed are gone with it:

- the folder's lock is held while room is made and an entry is begun, and while one gets
  its name,
- an entry that is being written is a `.part`, locked by its writer; one that is not
  locked was left by a dead one, and goes,
- an entry that is being read is locked by its reader, and is not removed.

What is in the files is not looked at here.
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
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

NAME = re.compile(r"[0-9a-f]{16}")
PART = ".part"
LOCK = ".ggrpc.lock"


class CacheEntry(NamedTuple):
    """A file of the cache.

    Attributes:
        name: its hash, 16 hexadecimal digits.
        size: bytes.
        mtime_ns: when it was written.
        atime_ns: when it was last used.
    """

    name: str
    size: int
    mtime_ns: int
    atime_ns: int


def default_folder() -> Path:
    """Where llama.cpp's own server keeps its cache on this machine."""
    if llama := os.environ.get("LLAMA_CACHE"):
        return Path(llama) / "rpc"
    if sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "llama.cpp" / "rpc"


class Folder:
    """The files.

    Args:
        path: of the folder, which is made where it is missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def default_limit(self) -> int:
        """A tenth of the disk, in bytes."""
        return shutil.disk_usage(self.path).total // 10

    def entries(self) -> list[CacheEntry]:
        """Every entry, in no order."""
        return self._survey()[0]

    def begin(self, size: int, limit: int) -> tuple[int, Path] | None:
        """Make room for an entry, and begin it.

        Args:
            size: its bytes.
            limit: bytes of all entries, this one included.

        Returns:
            A file of that size, open and locked, and its path; None where there is no
            room beside the entries in use.

        Raises:
            OSError: the folder cannot be written.
        """
        with self.locked():
            entries, parts = self._survey(clean=True)
            room = limit - size - parts
            if room < 0 or self._shrink(entries, room)[1] > room:
                return None
            path = self.path / f".{secrets.token_hex(8)}{PART}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                os.ftruncate(fd, size)  # so that others count it
            except OSError:
                os.close(fd)
                path.unlink()
                raise
            return fd, path

    def publish(self, part: Path, name: str) -> None:
        """Give an entry that is whole, and on the disk, its name."""
        with self.locked():  # who counts finds it once, under either name
            os.replace(part, self.path / name)
        fd = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def prune(
        self, limit: int | None, older_than: float | None, dry_run: bool = False
    ) -> list[CacheEntry]:
        """Remove what was not used for long, and then the least recently used.

        Args:
            limit: bytes that may stay, None for any number.
            older_than: seconds without use after which an entry goes; None: never.
            dry_run: only say what would go.

        Returns:
            The entries that went.
        """
        with self.locked():
            gone: list[CacheEntry] = []
            entries, parts = self._survey()
            if older_than is not None:
                newest = time.time_ns() - int(older_than * 1e9)
                old = [entry for entry in entries if entry.atime_ns < newest]
                gone = [entry for entry in old if dry_run or self.remove(entry.name)]
                entries = list(set(entries).difference(gone))
            if limit is not None:
                gone += self._shrink(entries, limit - parts, dry_run)[0]
            return gone

    def remove(self, name: str) -> bool:
        """Remove an entry; False where it is in use."""
        path = self.path / name
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError:
            # Gone, or not to be read: then nobody reads it.
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
        """Keep other processes and threads from making room meanwhile."""
        fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _survey(self, clean: bool = False) -> tuple[list[CacheEntry], int]:
        """The entries, and the bytes of those being written.

        Args:
            clean: remove what dead writers left.
        """
        entries: list[CacheEntry] = []
        parts = 0
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
                    continue  # removed meanwhile
                if is_part:
                    parts += stat.st_size
                elif S_ISREG(stat.st_mode):
                    times = stat.st_mtime_ns, stat.st_atime_ns
                    entries.append(CacheEntry(file.name, stat.st_size, *times))
        return entries, parts

    def _shrink(
        self, entries: list[CacheEntry], limit: int, dry_run: bool = False
    ) -> tuple[list[CacheEntry], int]:
        """Remove the least recently used of some entries until the rest fits.

        Args:
            entries: all that count.
            limit: bytes that may stay.
            dry_run: only say what would go.

        Returns:
            What went, and the bytes that stay.
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
