"""Writes entries atomically, in the background.

The thread that receives a tensor writes its bytes to a `.part` file. A second thread
hashes them, syncs the file and renames it, so that the client need not wait for that.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from pathlib import Path

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.fnv1a import Hasher, hash_name
from ggrpc.engine.cache.folder import Folder
from ggrpc.engine.cache.index import EntryRecord, Index
from ggrpc.engine.cache.reading import HASH_PIECE, crc32, read_at
from ggrpc.errors import GgrpcError

log = logging.getLogger(__name__)


class PendingEntry:
    """An entry that is being received.

    Args:
        fd: the `.part` file, open, locked and of the size of the entry.
        path: the path of that file.
        size: the size of the entry in bytes.
        tensor: the name of the tensor.

    Attributes:
        path: the path of the `.part` file.
        size: the size of the entry in bytes.
        tensor: the name of the tensor.
        done: set when the entry is complete or was discarded.
    """

    def __init__(self, fd: int, path: Path, size: int, tensor: str) -> None:
        self.path = path
        self.size = size
        self.tensor = tensor
        self.done = threading.Event()
        self._fd = fd
        self._written = 0
        self._given_up = False
        self._changed = threading.Condition()

    def write(self, piece: memoryview) -> None:
        """Write the next bytes; if that fails, log it and give up."""
        if self._given_up:
            return
        try:
            written = 0
            while written < len(piece):
                at = self._written + written
                written += os.pwrite(self._fd, piece[written:], at)
        except OSError as error:
            log.warning(
                "%s cannot be written (%s): %s is not cached",
                *(self.path.parent, error.strerror, self.tensor),
            )
            self.give_up()
            return
        with self._changed:
            self._written += len(piece)
            self._changed.notify()

    def give_up(self) -> None:
        """Declare that the remaining bytes will not arrive."""
        with self._changed:
            self._given_up = True
            self._changed.notify()

    def scan(self, hasher: Hasher) -> tuple[int, int] | None:
        """Hash the bytes as they arrive.

        Args:
            hasher: a new hasher.

        Returns:
            The hash and the CRC-32; None if the entry was given up.

        Raises:
            OSError: the file cannot be read.
        """
        crc, done = 0, 0
        scratch = memoryview(bytearray(min(HASH_PIECE, self.size)))
        while done < self.size:
            piece = scratch[: self._wait_beyond(done) - done]
            if self._given_up:
                return None
            read_at(self._fd, done, piece, self.path)
            hasher.update(piece)
            crc = crc32(piece, crc)
            done += len(piece)
        return hasher.value, crc

    def sync(self) -> int:
        """Sync the file to the disk.

        Returns:
            The modification time of the file in nanoseconds.
        """
        os.fsync(self._fd)
        return os.fstat(self._fd).st_mtime_ns

    def close(self) -> None:
        """Close the file; remove it if it was not published."""
        self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self.done.set()

    def _wait_beyond(self, done: int) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._written > done or self._given_up)
            return self._written


class CacheWriter:
    """The thread that completes pending entries, one after the other.

    Args:
        folder: the files of the cache.
        index: the index of the cache.
        hashing: creates hashers.
    """

    def __init__(self, folder: Folder, index: Index, hashing: Hashing) -> None:
        self._folder = folder
        self._index = index
        self._hashing = hashing
        self._todo: queue.SimpleQueue[PendingEntry | None] = queue.SimpleQueue()
        self._pending: dict[PendingEntry, int | None] = {}  # with the announced hash
        self._lock = threading.Lock()  # guards _pending
        self._discards = False  # whether to discard all pending entries
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
            The entry; None if the cache has no room for it, or if an entry with this
            hash is pending already.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._lock:
            if self._with_hash(announced):
                return None
            begun = self._folder.begin(size, limit)
            if begun is None:
                return None
            pending = PendingEntry(*begun, size, tensor)
            self._pending[pending] = announced
        self._todo.put(pending)
        return pending

    def wait_for(self, announced: int, seconds: float) -> None:
        """Wait until a pending entry with this hash, if there is one, is done."""
        with self._lock:
            waiting = self._with_hash(announced)
        for pending in waiting:
            pending.done.wait(seconds)

    def close(self, seconds: float) -> None:
        """Complete the pending entries, for at most this time; discard the others."""
        self._todo.put(None)
        self._thread.join(seconds)
        self._discards = True
        with self._lock:
            for pending in self._pending:
                pending.give_up()
        self._thread.join()

    def _work(self) -> None:
        while (pending := self._todo.get()) is not None:
            try:
                if not self._discards:
                    self._complete(pending)
            except (OSError, GgrpcError) as error:
                reason = getattr(error, "strerror", None) or error
                log.warning("%s is not cached: %s", pending.tensor, reason)
            except Exception:
                log.exception("cannot cache a tensor because of a bug in ggrpc")
            finally:
                pending.close()
                with self._lock:
                    del self._pending[pending]

    def _complete(self, pending: PendingEntry) -> None:
        """Hash, sync and publish an entry, unless it is given up."""
        scanned = pending.scan(self._hashing.hasher())
        if scanned is None:
            return
        value, crc = scanned
        mtime_ns = pending.sync()
        name = hash_name(value)
        self._folder.publish(pending.path, name)
        self._index.add_entry(
            name, EntryRecord(pending.size, mtime_ns, crc, pending.tensor)
        )

    def _with_hash(self, value: int | None) -> list[PendingEntry]:
        """The pending entries for which this hash was announced."""
        if value is None:
            return []
        return [pending for pending, other in self._pending.items() if other == value]
