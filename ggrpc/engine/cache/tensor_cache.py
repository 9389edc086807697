"""The tensor cache of a server: finds tensors by hash, and stores new ones.

A tensor is verified before this process serves it for the first time. If anything
fails, the cache reports a miss, and the client sends the tensor.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from ggrpc.closable import Closable
from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.checked_reads import check_unchanged, read_checked, set_used
from ggrpc.engine.cache.fnv1a import hash_name
from ggrpc.engine.cache.folder import Folder, default_folder
from ggrpc.engine.cache.index import EntryRecord, Index, ModelTensor, Stamp
from ggrpc.engine.cache.writer import CacheWriter, PendingEntry
from ggrpc.engine.files.ranges import FileChangedError, read_at
from ggrpc.errors import FileError
from ggrpc.units import format_size

# Seconds to store received entries when the server stops.
CLOSE_TIMEOUT = 30.0

# Opens a destination of the given number of bytes.
OpenTarget = Callable[[int], AbstractContextManager[memoryview]]

log = logging.getLogger(__name__)


class TensorCache(Closable):
    """The entries of a folder, and the tensors of indexed model files.

    A context manager; may be shared by threads.

    Args:
        folder: the folder; None for the one that llama.cpp's rpc-server uses.
        limit: the maximum size of all entries in bytes; None for a tenth of the disk.
        use_entries: whether to load and store entries; False to load only tensors of
            model files.
        hashing: creates hashers; None to hash with numpy.

    Attributes:
        folder: the files.
        limit: the maximum size of all entries in bytes.
        index: the records of entries and model files.
        hashing: creates hashers.

    Raises:
        FileError: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path | None = None,
        limit: int | None = None,
        use_entries: bool = True,
        hashing: Hashing | None = None,
    ) -> None:
        path = folder or default_folder()
        try:
            self.folder = Folder(path)
            self.limit = self.folder.default_limit() if limit is None else limit
        except OSError as error:
            raise FileError(
                f"{path} cannot be used as a cache: {error.strerror}; choose another "
                "folder with --cache-dir"
            ) from error
        self._use_entries = use_entries
        self.index = Index(path)
        self.hashing = hashing or Hashing()
        self._writer = CacheWriter(self.folder, self.index, self.hashing)
        self._verified: set[tuple[str, int, Stamp]] = set()
        self._warned_too_large = False

    def __str__(self) -> str:
        return f"{self.folder.path}, at most {format_size(self.limit)}"

    def close(self, seconds: float = CLOSE_TIMEOUT) -> None:
        """Store received entries for at most `seconds`, and discard the others."""
        self._writer.close(seconds)
        self.index.close()

    def wait_for(self, value: int, seconds: float) -> None:
        """Wait for an entry that is being stored, for at most `seconds`."""
        self._writer.wait_for(value, seconds)

    def load(self, value: int, max_size: int, open_target: OpenTarget) -> bool:
        """Write the tensor with a hash to a destination.

        Args:
            value: the hash.
            max_size: the size of the destination in bytes; larger tensors are misses.
            open_target: opens the destination.

        Returns:
            Whether the tensor was found. If not, the contents of the destination are
            undefined.
        """
        name = hash_name(value)
        return any(
            self._load_from_model(tensor, value, max_size, open_target)
            for tensor in self.index.model_tensors(name)
        ) or (
            self._use_entries and self._load_entry(name, value, max_size, open_target)
        )

    def begin(
        self, size: int, announced: int | None, tensor: str
    ) -> PendingEntry | None:
        """Start an entry for a tensor that a client sends.

        Args:
            size: the size of the tensor in bytes.
            announced: the hash that the client announced; None if it did not.
            tensor: the name of the tensor.

        Returns:
            The entry; None if the tensor will not be stored.
        """
        if not self._use_entries:
            return None
        if size > self.limit:
            self._warn_too_large(size, tensor)
            return None
        try:
            return self._writer.begin(size, self.limit, announced, tensor)
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): %s is not cached",
                *(self.folder.path, error.strerror, tensor),
            )
            return None

    def _warn_too_large(self, size: int, tensor: str) -> None:
        """Log the first tensor that the cache is too small for."""
        if not self._warned_too_large:
            self._warned_too_large = True
            log.warning(
                "%s has %s, but the limit of the cache is %s: it is not cached, and "
                "neither are larger tensors; raise --cache-limit",
                *(tensor, format_size(size), format_size(self.limit)),
            )

    def _load_from_model(
        self, tensor: ModelTensor, value: int, max_size: int, open_target: OpenTarget
    ) -> bool:
        path = Path(tensor.path)
        with _log_errors(path), _opened(path) as fd:
            check_unchanged(fd, tensor.stamp, path)
            if not _fits(path, tensor.size, max_size):
                return False
            source = _Source(fd, path, tensor.offset, tensor.size, tensor.stamp)
            if self._read(source, tensor.crc, value, open_target) is not None:
                return True
            log.warning(
                "%s: the bytes of %s have changed; the client must send it",
                *(path, tensor.tensor),
            )
            self.index.forget_model(tensor.path)
        return False

    def _load_entry(
        self, name: str, value: int, max_size: int, open_target: OpenTarget
    ) -> bool:
        path, damaged = self.folder.path / name, False
        with _log_errors(path), _opened(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_SH)
            stamp = Stamp.of(os.fstat(fd))
            if not _fits(path, stamp.size, max_size):
                return False
            known = self.index.entry(name)
            crc = known.crc if known and known[:2] == stamp[:2] else None
            source = _Source(fd, path, 0, stamp.size, stamp)
            found = self._read(source, crc, value, open_target)
            if found is not None:
                if found != crc:  # another program wrote the entry
                    tensor = known.tensor if known else ""
                    self.index.add_entry(name, EntryRecord(*stamp[:2], found, tensor))
                set_used(path, time.time_ns(), stamp.mtime_ns)
                return True
            damaged = True
        if damaged:  # removed here, because the lock above would prevent it
            log.warning(
                "%s is damaged and will be removed; the client must send it", path
            )
            self.folder.remove(name)
            self.index.forget_entries([name])
        return False

    def _read(
        self, source: _Source, crc: int | None, value: int, open_target: OpenTarget
    ) -> int | None:
        """Copy bytes to their destination, and verify them if they were not before.

        Args:
            source: the bytes.
            crc: the recorded CRC-32; None if there is none.
            value: the expected hash.
            open_target: opens the destination.

        Returns:
            The CRC-32 of the bytes; None if their hash is wrong.
        """
        fd, path, offset, size, stamp = source
        key = str(path), offset, stamp
        found = crc
        with open_target(size) as view:
            if crc is not None and key in self._verified:
                read_at(fd, offset, view, path)
            else:
                found = read_checked(fd, offset, view, path)
                if found != crc and self.hashing.of(view) != value:
                    return None
        check_unchanged(fd, stamp, path)
        self._verified.add(key)
        return found


class _Source(NamedTuple):
    """A range of bytes in an open file, and the stamp of the file."""

    fd: int
    path: Path
    offset: int
    size: int
    stamp: Stamp


def _fits(path: Path, size: int, max_size: int) -> bool:
    if size > max_size:
        log.warning(
            "%s has %d bytes, but the tensor has %d; the client must send it",
            *(path, size, max_size),
        )
    return size <= max_size


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _log_errors(path: Path) -> Iterator[None]:
    """Log and suppress errors of reading a file; a missing file is not logged."""
    try:
        yield
    except FileNotFoundError:
        pass
    except FileChangedError as error:
        log.warning("%s; the client must send the tensor", error)
    except OSError as error:
        log.warning(
            "%s cannot be read (%s); the client must send the tensor",
            *(path, error.strerror),
        )
