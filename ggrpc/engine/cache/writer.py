"""Writes entries: whole, or not at all.

The bytes go into a file beside while they arrive. A thread hashes what is there, syncs
the file, and gives it its name; whoever sent the bytes need not wait for that.
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
    """An entry whose bytes arrive.

    Args:
        fd: a file of the entry's size, open and locked.
        path: of that file.
        size: bytes.
        tensor: the name of the tensor that they are of.

    Attributes:
        done: set when it is an entry, or will never be one.
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
        """Take the next bytes; a disk that does not is no trouble of the sender's."""
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
        """No more bytes will come."""
        with self._changed:
            self._given_up = True
            self._changed.notify()

    def scan(self, hasher: Hasher) -> tuple[int, int] | None:
        """Go over the bytes as they arrive.

        Args:
            hasher: a new one.

        Returns:
            Their hash and their CRC-32; None where they do not all come.

        Raises:
            OSError: they cannot be read back.
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
        """Wait until the disk has it.

        Returns:
            When it was written.
        """
        os.fsync(self._fd)
        return os.fstat(self._fd).st_mtime_ns

    def close(self) -> None:
        """It is an entry, or its file goes."""
        self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self.done.set()

    def _wait_beyond(self, done: int) -> int:
        with self._changed:
            self._changed.wait_for(lambda: self._written > done or self._given_up)
            return self._written


class CacheWriter:
    """The thread that turns what arrives into entries, one after the other.

    Args:
        folder: where they are kept.
        index: what knows of them.
        hashing: names them.
    """

    def __init__(self, folder: Folder, index: Index, hashing: Hashing) -> None:
        self._folder = folder
        self._index = index
        self._hashing = hashing
        self._todo: queue.SimpleQueue[PendingEntry | None] = queue.SimpleQueue()
        self._pending: dict[
            PendingEntry, int | None
        ] = {}  # and the hash announced for it
        self._lock = threading.Lock()
        self._hurried = False
        self._thread = threading.Thread(target=self._work, name="cache", daemon=True)
        self._thread.start()

    def begin(
        self, size: int, limit: int, announced: int | None, tensor: str
    ) -> PendingEntry | None:
        """Begin an entry.

        Args:
            size: its bytes.
            limit: bytes that the cache may have.
            announced: the hash that its bytes are said to have.
            tensor: the name of the tensor that they are of.

        Returns:
            What takes the bytes, None where there is no room, or they are on their way
            already.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._lock:
            if self._announced(announced):
                return None
            begun = self._folder.begin(size, limit)
            if begun is None:
                return None
            pending = PendingEntry(*begun, size, tensor)
            self._pending[pending] = announced
        self._todo.put(pending)
        return pending

    def wait_for(self, announced: int, seconds: float) -> None:
        """Wait until bytes that are on their way are an entry."""
        with self._lock:
            fillings = self._announced(announced)
        for pending in fillings:
            pending.done.wait(seconds)

    def close(self, seconds: float) -> None:
        """Finish what has arrived, for at most so long; throw the rest away."""
        self._todo.put(None)
        self._thread.join(seconds)
        self._hurried = True
        with self._lock:
            for pending in self._pending:
                pending.give_up()
        self._thread.join()

    def _work(self) -> None:
        while (pending := self._todo.get()) is not None:
            try:
                if not self._hurried:
                    self._keep(pending)
            except (OSError, GgrpcError) as error:
                log.warning("%s is not cached: %s", pending.tensor, error)
            except Exception:
                log.exception("a bug in ggrpc kept a tensor out of the cache")
            finally:
                pending.close()
                with self._lock:
                    del self._pending[pending]

    def _keep(self, pending: PendingEntry) -> None:
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

    def _announced(self, value: int | None) -> list[PendingEntry]:
        """Who is to get this hash; nobody for None."""
        if value is None:
            return []
        return [pending for pending, other in self._pending.items() if other == value]
