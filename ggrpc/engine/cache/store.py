"""The cache of a server: finds bytes by their hash, and keeps new ones.

Nothing that is found here is served unless it was checked since this process began.
Whatever goes wrong costs the client the plain transfer, and nothing else.
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
from ggrpc.engine.cache.fnv1a import hash_name
from ggrpc.engine.cache.folder import Folder, default_folder
from ggrpc.engine.cache.index import EntryRecord, Index, ModelTensor, Stamp
from ggrpc.engine.cache.reading import (
    FileChangedError,
    check_unchanged,
    read_at,
    read_checked,
    set_used,
)
from ggrpc.engine.cache.writer import CacheWriter, PendingEntry
from ggrpc.errors import ConfigError
from ggrpc.units import format_size

# Seconds that a client waits for what another one has sent already, to become an entry.
PENDING = 10.0
# Seconds for what has arrived to become entries when the server ends.
FINISH = 30.0

# Opens the place of so many bytes.
Place = Callable[[int], AbstractContextManager[memoryview]]

log = logging.getLogger(__name__)


class TensorCache(Closable):
    """The entries of a folder, and the tensors of models that lie on this machine.

    A context manager; threads may share it.

    Args:
        folder: where it is; None for llama.cpp's.
        limit: bytes of all entries; None for a tenth of the disk.
        keeps: whether entries are served and made, beside what models have.
        hashing: makes hashers; None: with numpy alone.

    Attributes:
        folder: the files.
        index: what is known of them.
        hashing: as above.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path | None = None,
        limit: int | None = None,
        keeps: bool = True,
        hashing: Hashing | None = None,
    ) -> None:
        path = folder or default_folder()
        try:
            self.folder = Folder(path)
            self.limit = self.folder.default_limit() if limit is None else limit
        except OSError as error:
            raise ConfigError(
                f"{path} cannot hold a cache: {error.strerror}; name another folder "
                "with --cache-dir"
            ) from error
        self.keeps = keeps
        self.index = Index(path)
        self.hashing = hashing or Hashing()
        self._keeper = CacheWriter(self.folder, self.index, self.hashing)
        self._checked: set[tuple[str, int, Stamp]] = set()

    def __str__(self) -> str:
        return f"{self.folder.path}, at most {format_size(self.limit)}"

    def close(self, seconds: float = FINISH) -> None:
        """Finish what has arrived, for at most so long."""
        self._keeper.close(seconds)
        self.index.close()

    def load(self, value: int, room: int, place: Place) -> bool:
        """Bring the bytes of a hash to their place.

        Args:
            value: the hash.
            room: bytes that there is room for.
            place: opens it.

        Returns:
            Whether they are there. Where they are not, the place may hold anything.
        """
        self._keeper.wait_for(value, PENDING)
        name = hash_name(value)
        return any(
            self._lies(stored, value, room, place)
            for stored in self.index.model_tensors(name)
        ) or (self.keeps and self._is_kept(name, value, room, place))

    def begin(
        self, size: int, announced: int | None, tensor: str
    ) -> PendingEntry | None:
        """Begin to keep bytes that a client sends; None where they are not kept."""
        if not self.keeps:
            return None
        try:
            pending = self._keeper.begin(size, self.limit, announced, tensor)
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): %s is not cached",
                *(self.folder.path, error.strerror, tensor),
            )
            return None
        return pending

    def _lies(self, stored: ModelTensor, value: int, room: int, place: Place) -> bool:
        """Bring a tensor out of a model's file."""
        path = Path(stored.path)
        with _told_of(path), _opened(path) as fd:
            check_unchanged(fd, stored.stamp, path)
            if not _fits(path, stored.size, room):
                return False
            source = _Source(fd, path, stored.offset, stored.size, stored.stamp)
            if self._bring(source, stored.crc, value, place) is not None:
                return True
            log.warning("%s: %s is not what it was: it is sent", path, stored.tensor)
            self.index.forget_model(stored.path)
        return False

    def _is_kept(self, name: str, value: int, room: int, place: Place) -> bool:
        """Bring an entry."""
        path, wrong = self.folder.path / name, False
        with _told_of(path), _opened(path) as fd:
            fcntl.flock(fd, fcntl.LOCK_SH)
            stamp = Stamp.of(os.fstat(fd))
            if not _fits(path, stamp.size, room):
                return False
            known = self.index.entry(name)
            crc = known.crc if known and known[:2] == stamp[:2] else None
            source = _Source(fd, path, 0, stamp.size, stamp)
            found = self._bring(source, crc, value, place)
            if found is not None:
                if found != crc:  # it was put there by another program
                    tensor = known.tensor if known else ""
                    self.index.add_entry(name, EntryRecord(*stamp[:2], found, tensor))
                set_used(path, time.time_ns(), stamp.mtime_ns)
                return True
            wrong = True
        if wrong:
            log.warning("%s is not what its name says: it is removed and sent", path)
            self.folder.remove(name)
            self.index.forget_entries([name])
        return False

    def _bring(
        self, source: _Source, crc: int | None, value: int, place: Place
    ) -> int | None:
        """Bring bytes to their place.

        Args:
            source: where they lie.
            crc: the CRC-32 that they had, None where nobody took it.
            value: the hash that they must have.
            place: opens their place.

        Returns:
            The CRC-32 that they have; None where they are not the right ones.
        """
        fd, path, at, size, stamp = source
        key = str(path), at, stamp
        found = crc
        with place(size) as view:
            if crc is not None and key in self._checked:
                read_at(fd, at, view, path)
            else:
                found = read_checked(fd, at, view, path)
                if found != crc and self.hashing.of(view) != value:
                    return None
        check_unchanged(fd, stamp, path)
        self._checked.add(key)
        return found


class _Source(NamedTuple):
    """Where bytes lie: in an open file, from `at` on, as of a stamp."""

    fd: int
    path: Path
    at: int
    size: int
    stamp: Stamp


def _fits(path: Path, size: int, room: int) -> bool:
    if size > room:
        log.warning("%s has %d bytes, the tensor %d: it is sent", path, size, room)
    return size <= room


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Go on where a file cannot be used, with a line in the log."""
    try:
        yield
    except FileNotFoundError:
        pass  # there is no such entry, or the model has gone
    except FileChangedError as error:
        log.warning("%s: the tensor is sent", error)
    except OSError as error:
        log.warning("%s cannot be read (%s): the tensor is sent", path, error.strerror)
