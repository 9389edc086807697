"""Verifies the tensors of a cache, and repairs or removes damaged entries."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ggrpc.engine.cache.accelerated_hash import hashing_for
from ggrpc.engine.cache.checked_reads import PIECE, OnProgress, scan, set_used
from ggrpc.engine.cache.fnv1a import hash_name
from ggrpc.engine.cache.folder import Folder
from ggrpc.engine.cache.index import EntryRecord, Index, ModelTensor, Stamp
from ggrpc.engine.files.ranges import FileChangedError, read_at

UNLIMITED = 1 << 62


class VerifyResult(NamedTuple):
    """The result for one tensor.

    Attributes:
        name: the hash that the tensor should have.
        kind: `entry` or `model`, as in `Item`.
        size: its size in bytes.
        result: `ok`, `gone` or `unreadable`; for an entry also `repaired`, `removed`,
            `would be repaired`, `would be removed` or `in use` (damaged, but a reader
            prevents its removal); for a tensor in a model file also `changed`.
        where: the path of the file.
    """

    name: str
    kind: str
    size: int
    result: str
    where: str

    @property
    def is_ok(self) -> bool:
        """Whether the tensor was found and has the right hash."""
        return self.result == "ok"


class Verifier:
    """Verifies the entries and the indexed model tensors of a cache.

    Args:
        folder: the files of the cache.
        index: the index of the cache.
        dry_run: only report what would be changed.
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
        """The number of bytes to read."""
        sizes = [entry.size for entry in self._entries]
        return sum(sizes) + sum(tensor.size for tensor in self._models)

    def run(self, on_progress: OnProgress) -> Iterator[VerifyResult]:
        """Verify one tensor after the other.

        Model tensors come first, because damaged entries are repaired from them.

        Args:
            on_progress: called with the size of each piece that was read.
        """
        for tensor in self._models:
            result = self._check_model_tensor(tensor, on_progress)
            if result != "ok" and not self._dry_run:
                self._index.forget_model(tensor.path)
            yield VerifyResult(tensor.hash, "model", tensor.size, result, tensor.path)
        for entry in self._entries:
            path = self._folder.path / entry.name
            result = self._check_entry(entry.name, path, on_progress)
            if result == "wrong":
                result = self._repair(entry.name, path)
            yield VerifyResult(entry.name, "entry", entry.size, result, str(path))

    def _check_model_tensor(self, tensor: ModelTensor, on_progress: OnProgress) -> str:
        try:
            with open(tensor.path, "rb") as file:
                if Stamp.of(os.fstat(file.fileno())) != tensor.stamp:
                    return "changed"
                path = Path(tensor.path)
                hasher = self._hashing.hasher()
                where = file.fileno(), tensor.offset, tensor.size, path
                value, _ = scan(*where, hasher, on_progress)
        except FileNotFoundError:
            return "gone"
        except OSError:
            return "unreadable"
        except FileChangedError:
            return "changed"
        return "ok" if hash_name(value) == tensor.hash else "changed"

    def _check_entry(self, name: str, path: Path, on_progress: OnProgress) -> str:
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                stat = os.fstat(file.fileno())
                hasher = self._hashing.hasher()
                where = file.fileno(), 0, stat.st_size, path
                value, crc = scan(*where, hasher, on_progress)
            # Verification does not count as use.
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
        """Replace a damaged entry with a copy from a model file, or remove it."""
        sources = self._index.model_tensors(name)
        if self._dry_run:
            return "would be repaired" if sources else "would be removed"
        self._index.forget_entries([name])
        if not self._folder.remove(name):
            return "in use"
        return "repaired" if any(map(self._add_copy, sources)) else "removed"

    def _add_copy(self, tensor: ModelTensor) -> bool:
        """Add an entry with the bytes of a model tensor; returns False on failure."""
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
