"""Writes entries atomically, in the background.

The thread that receives a tensor writes its bytes to a `.part` file. When the file is
complete, a second thread hashes it, syncs it and renames it, so that the client need
not wait for that. An entry whose bytes are still arriving delays no other entry.
"""

from __future__ import annotations

import logging
import os
import queue
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.fnv1a import hash_name
from ggrpc.engine.cache.folder import Folder
from ggrpc.engine.cache.index import EntryRecord, Index
from ggrpc.engine.cache.reading import PIECE, scan
from ggrpc.errors import Cancelled, GgrpcError

# Pending entries of all clients; each holds an open file. The limit on open files may
# reduce it, so that most of them are left for connections.
MAX_PENDING = 256
PART_OF_OPEN_FILES = 8

log = logging.getLogger(__name__)


class PendingEntry:
    """An entry that is being received or written.

    Args:
        fd: the `.part` file, open, locked and of the size of the entry.
        path: the path of that file.
        size: the size of the entry in bytes, at least 1.
        announced: the hash that the client announced; None if it did not.
        tensor: the name of the tensor.
        complete: takes the entry when all its bytes have arrived.

    Attributes:
        path: the path of the `.part` file.
        size: the size of the entry in bytes.
        announced: the hash that the client announced; None if it did not.
        tensor: the name of the tensor.
        done: set when the entry was stored or discarded.
    """

    def __init__(
        self,
        fd: int,
        path: Path,
        size: int,
        announced: int | None,
        tensor: str,
        complete: queue.SimpleQueue[PendingEntry | None],
    ) -> None:
        self.path = path
        self.size = size
        self.announced = announced
        self.tensor = tensor
        self.done = threading.Event()
        self._fd = fd
        self._complete = complete
        self._begun_at = time.monotonic()
        self._written = 0
        self._lock = threading.Lock()  # held while _fd is written or closed

    @property
    def is_arriving(self) -> bool:
        """Whether bytes of the entry are missing."""
        return self._written < self.size and not self.done.is_set()

    @property
    def rate(self) -> float:
        """The bytes per second so far; a new entry is taken for a fast one."""
        return (self._written + PIECE) / (time.monotonic() - self._begun_at + 1)

    def write(self, piece: memoryview) -> None:
        """Write the next bytes; if that fails, log it and give up."""
        try:
            with self._lock:
                if self.done.is_set():
                    return
                self._append(piece)
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): %s is not cached",
                *(self.path.parent, error.strerror, self.tensor),
            )
            self.close()
            return
        if self._written == self.size:
            self._complete.put(self)

    def give_up(self) -> None:
        """Discard the entry if bytes are missing: they will not arrive."""
        with self._lock:
            if self.is_arriving:
                self._close()

    def hash(self, hashing: Hashing, is_cancelled: threading.Event) -> tuple[int, int]:
        """Hash the bytes of a complete entry.

        Returns:
            The hash and the CRC-32.

        Raises:
            Cancelled: the event was set.
            OSError: the file cannot be read.
        """

        def check(count: int) -> None:
            if is_cancelled.is_set():
                raise Cancelled("the server stops")

        return scan(self._fd, 0, self.size, self.path, hashing.hasher(), check)

    def sync(self) -> int:
        """Sync the file to the disk.

        Returns:
            The modification time of the file in nanoseconds.
        """
        os.fsync(self._fd)
        return os.fstat(self._fd).st_mtime_ns

    def close(self) -> None:
        """Close the file; remove it if it was not published."""
        with self._lock:
            self._close()

    def _append(self, piece: memoryview) -> None:
        while len(piece):
            written = os.pwrite(self._fd, piece, self._written)
            self._written, piece = self._written + written, piece[written:]

    def _close(self) -> None:
        if not self.done.is_set():
            self.path.unlink(missing_ok=True)
            os.close(self._fd)
            self.done.set()


class CacheWriter:
    """The pending entries, and the thread that stores those that are complete.

    Args:
        folder: the files of the cache.
        index: the index of the cache.
        hashing: creates hashers.
    """

    def __init__(self, folder: Folder, index: Index, hashing: Hashing) -> None:
        self._folder = folder
        self._index = index
        self._hashing = hashing
        self._complete: queue.SimpleQueue[PendingEntry | None] = queue.SimpleQueue()
        self._pending: list[PendingEntry] = []
        self._lock = threading.Lock()  # guards _pending
        self._discards = threading.Event()  # set to discard all pending entries
        self._thread = threading.Thread(target=self._work, name="cache", daemon=True)
        self._thread.start()

    def begin(
        self, size: int, limit: int, announced: int | None, tensor: str
    ) -> PendingEntry | None:
        """Start an entry.

        Args:
            size: the size of the entry in bytes.
            limit: the maximum size of the cache in bytes.
            announced: the hash that the client announced; None if it did not.
            tensor: the name of the tensor.

        Returns:
            The entry; None if it is empty, if the cache has no room for it or is
            closed, if a complete entry with this hash is pending, or if too many are.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._lock:
            if not size or self._discards.is_set():
                return None
            if any(self._complete_with(announced)):
                return None
            if len(self._pending) >= max_pending() and not self._give_up_slowest():
                log.info("%s is not cached: the disk is too slow", tensor)
                return None
            begun = self._folder.begin(size, limit)
            if begun is None:
                return None
            pending = PendingEntry(*begun, size, announced, tensor, self._complete)
            self._pending.append(pending)
            return pending

    def wait_for(self, announced: int, seconds: float) -> None:
        """Wait until a complete entry with this hash, if there is one, is stored.

        Entries that are still arriving may take for ever, and are not waited for.
        """
        end = time.monotonic() + seconds
        with self._lock:
            waiting = list(self._complete_with(announced))
        for pending in waiting:
            pending.done.wait(max(0.0, end - time.monotonic()))

    def close(self, seconds: float) -> None:
        """Store the complete entries, for at most this time; discard the others."""
        with self._lock:
            for pending in self._pending:
                pending.give_up()
        self._complete.put(None)
        self._thread.join(seconds)
        self._discards.set()
        self._thread.join()
        with self._lock:
            for pending in self._pending:
                pending.close()

    def _work(self) -> None:
        while (pending := self._complete.get()) is not None:
            try:
                if not self._discards.is_set():
                    self._store(pending)
            except Cancelled:
                pass
            except (OSError, GgrpcError) as error:
                reason = getattr(error, "strerror", None) or error
                log.warning("%s is not cached: %s", pending.tensor, reason)
            except Exception:
                log.exception("cannot cache a tensor because of a bug in ggrpc")
            finally:
                pending.close()

    def _store(self, pending: PendingEntry) -> None:
        """Hash, sync and publish a complete entry."""
        value, crc = pending.hash(self._hashing, self._discards)
        mtime_ns = pending.sync()
        name = hash_name(value)
        self._folder.publish(pending.path, name)
        self._index.add_entry(
            name, EntryRecord(pending.size, mtime_ns, crc, pending.tensor)
        )

    def _complete_with(self, announced: int | None) -> Iterator[PendingEntry]:
        """The complete entries for which this hash was announced."""
        self._pending = [entry for entry in self._pending if not entry.done.is_set()]
        for pending in self._pending:
            if pending.announced == announced is not None and not pending.is_arriving:
                yield pending

    def _give_up_slowest(self) -> bool:
        """Discard the entry that arrives most slowly; False if none is arriving."""
        arriving = [pending for pending in self._pending if pending.is_arriving]
        if not arriving:
            return False
        slowest = min(arriving, key=lambda pending: pending.rate)
        slowest.give_up()
        log.info("%s is not cached: it arrives too slowly", slowest.tensor)
        return True


def max_pending() -> int:
    """How many entries may be pending, within the process's limit on open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_PENDING
    return min(MAX_PENDING, soft // PART_OF_OPEN_FILES)
