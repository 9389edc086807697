"""Checks a cache, and mends it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ggrpc.engine.cache.accelerated_hash import hashing_for
from ggrpc.engine.cache.fnv1a import hash_name
from ggrpc.engine.cache.folder import Folder
from ggrpc.engine.cache.index import EntryRecord, Index, ModelTensor, Stamp
from ggrpc.engine.cache.reading import PIECE, FileChangedError, read_at, scan, set_used

UNLIMITED = 1 << 62

Moved = Callable[[int], None]


class Problem(NamedTuple):
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
        self._models = index.model_tensors()
        self._hashing = hashing_for(self.size)

    @property
    def size(self) -> int:
        """Bytes to go over."""
        sizes = [entry.size for entry in self._entries]
        return sum(sizes) + sum(tensor.size for tensor in self._models)

    def run(self, moved: Moved) -> Iterator[Problem]:
        """Check one after the other: models first, which entries are repaired from.

        Args:
            moved: called with numbers of bytes that are done.
        """
        for tensor in self._models:
            result = self._check_model_tensor(tensor, moved)
            if result != "ok" and not self._dry_run:
                self._index.forget_model(tensor.path)
            yield Problem(tensor.hash, "model", tensor.size, result, tensor.path)
        for entry in self._entries:
            path = self._folder.path / entry.name
            result = self._check_entry(entry.name, path, moved)
            if result == "wrong":
                result = self._repair(entry.name, path)
            yield Problem(entry.name, "entry", entry.size, result, str(path))

    def _check_model_tensor(self, tensor: ModelTensor, moved: Moved) -> str:
        try:
            with open(tensor.path, "rb") as file:
                if Stamp.of(os.fstat(file.fileno())) != tensor.stamp:
                    return "changed"
                path = Path(tensor.path)
                hasher = self._hashing.hasher()
                where = file.fileno(), tensor.offset, tensor.size, path
                value, _ = scan(*where, hasher, moved)
        except FileNotFoundError:
            return "gone"
        except OSError:
            return "unreadable"
        except FileChangedError:
            return "changed"
        return "ok" if hash_name(value) == tensor.hash else "changed"

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
        except (OSError, FileChangedError):
            return "unreadable"
        if hash_name(value) != name:
            return "wrong"
        if not self._dry_run:
            known = self._index.entry(name)
            tensor = known.tensor if known else ""
            now = EntryRecord(stat.st_size, stat.st_mtime_ns, crc, tensor)
            if now != known:
                self._index.add_entry(name, now)
        return "ok"

    def _repair(self, name: str, path: Path) -> str:
        """Write an entry anew out of a model that has it, or remove it."""
        sources = self._index.model_tensors(name)
        if self._dry_run:
            return "repaired" if sources else "removed"
        self._index.forget_entries([name])
        if not self._folder.remove(name):
            return "in use"
        return "repaired" if any(map(self._copy, sources)) else "removed"

    def _copy(self, tensor: ModelTensor) -> bool:
        begun = self._folder.begin(tensor.size, UNLIMITED)
        if begun is None:
            return False
        fd, part = begun
        try:
            with open(tensor.path, "rb") as file:
                _copy(file.fileno(), tensor.offset, fd, tensor.size, Path(tensor.path))
            value, crc = scan(fd, 0, tensor.size, part, self._hashing.hasher())
            if hash_name(value) != tensor.hash:
                return False
            os.fsync(fd)
            mtime_ns = os.fstat(fd).st_mtime_ns
            self._folder.publish(part, tensor.hash)
            known = EntryRecord(tensor.size, mtime_ns, crc, tensor.tensor)
            self._index.add_entry(tensor.hash, known)
            return True
        except (OSError, FileChangedError):
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
