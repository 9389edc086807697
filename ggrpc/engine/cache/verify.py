"""Checks a cache, and mends it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ggrpc.engine.cache.accelerated_hash import hashing_for
from ggrpc.engine.cache.fnv1a import name_of
from ggrpc.engine.cache.folder import Folder
from ggrpc.engine.cache.index import Index, Known, Lying, Stamp
from ggrpc.engine.cache.reading import PIECE, TornError, read_at, scan, set_used

UNLIMITED = 1 << 62

Moved = Callable[[int], None]


class Finding(NamedTuple):
    """What a check of something came to.

    Attributes:
        name: its hash.
        kind: as an `Item` has it.
        size: bytes.
        result: `ok`, `repaired`, `removed`, `in use`, or `unreadable`; of what lies in
            a model, `changed` where its file did, or `gone`.
        where: the file.
    """

    name: str
    kind: str
    size: int
    result: str
    where: str

    @property
    def is_bad(self) -> bool:
        """Whether it was not what it should be."""
        return self.result != "ok"


class Check:
    """Goes over every byte of a cache.

    Args:
        folder: its files.
        index: what is known of them.
        dry_run: mends nothing.
    """

    def __init__(self, folder: Folder, index: Index, dry_run: bool) -> None:
        self._folder = folder
        self._index = index
        self._dry_run = dry_run
        self._entries = folder.entries()
        self._lying = index.lying()
        self._hashing = hashing_for(self.size)

    @property
    def size(self) -> int:
        """Bytes to go over."""
        sizes = [entry.size for entry in self._entries]
        return sum(sizes) + sum(lying.size for lying in self._lying)

    def run(self, moved: Moved) -> Iterator[Finding]:
        """Check one after the other: models first, which entries are mended from.

        Args:
            moved: called with numbers of bytes that are done.
        """
        for lying in self._lying:
            result = self._check_lying(lying, moved)
            if result != "ok" and not self._dry_run:
                self._index.forget_model(lying.path)
            yield Finding(lying.hash, "model", lying.size, result, lying.path)
        for entry in self._entries:
            path = self._folder.path / entry.name
            result = self._check_entry(entry.name, path, moved)
            if result == "wrong":
                result = self._mend(entry.name, path)
            yield Finding(entry.name, "entry", entry.size, result, str(path))

    def _check_lying(self, lying: Lying, moved: Moved) -> str:
        try:
            with open(lying.path, "rb") as file:
                if Stamp.of(os.fstat(file.fileno())) != lying.stamp:
                    return "changed"
                path = Path(lying.path)
                hasher = self._hashing.hasher()
                where = file.fileno(), lying.at, lying.size, path
                value, _ = scan(*where, hasher, moved)
        except FileNotFoundError:
            return "gone"
        except OSError:
            return "unreadable"
        except TornError:
            return "changed"
        return "ok" if name_of(value) == lying.hash else "changed"

    def _check_entry(self, name: str, path: Path, moved: Moved) -> str:
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                stat = os.fstat(file.fileno())
                hasher = self._hashing.hasher()
                where = file.fileno(), 0, stat.st_size, path
                value, crc = scan(*where, hasher, moved)
            # Reading is no use of it.
            set_used(path, stat.st_atime_ns, stat.st_mtime_ns)
        except FileNotFoundError:
            return "gone"
        except (OSError, TornError):
            return "unreadable"
        if name_of(value) != name:
            return "wrong"
        if not self._dry_run:
            known = self._index.entry(name)
            tensor = known.tensor if known else ""
            now = Known(stat.st_size, stat.st_mtime_ns, crc, tensor)
            if now != known:
                self._index.add_entry(name, now)
        return "ok"

    def _mend(self, name: str, path: Path) -> str:
        """Write an entry anew out of a model that has it, or remove it."""
        sources = self._index.lying(name)
        if self._dry_run:
            return "repaired" if sources else "removed"
        self._index.forget_entries([name])
        if not self._folder.remove(name):
            return "in use"
        return "repaired" if any(map(self._copy, sources)) else "removed"

    def _copy(self, lying: Lying) -> bool:
        begun = self._folder.begin(lying.size, UNLIMITED)
        if begun is None:
            return False
        fd, part = begun
        try:
            with open(lying.path, "rb") as file:
                _copy(file.fileno(), lying.at, fd, lying.size, Path(lying.path))
            value, crc = scan(fd, 0, lying.size, part, self._hashing.hasher())
            if name_of(value) != lying.hash:
                return False
            os.fsync(fd)
            mtime_ns = os.fstat(fd).st_mtime_ns
            self._folder.publish(part, lying.hash)
            known = Known(lying.size, mtime_ns, crc, lying.tensor)
            self._index.add_entry(lying.hash, known)
            return True
        except (OSError, TornError):
            return False
        finally:
            part.unlink(missing_ok=True)
            os.close(fd)


def _copy(source: int, at: int, target: int, size: int, path: Path) -> None:
    scratch = memoryview(bytearray(min(PIECE, size)))
    for start in range(0, size, PIECE):
        piece = scratch[: size - start]
        read_at(source, at + start, piece, path)
        os.pwrite(target, piece, start)
