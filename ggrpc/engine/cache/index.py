"""What is known of the cache's files: a small database beside them.

It is a hint and never the truth: what it says of a file holds only while the file's
stamp is the same, and its checksum is compared before the first use. So a database that
is lost, broken or locked costs time, and nothing else; such trouble is one line in the
log. Several processes may use it at once.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

FILE = "ggrpc.sqlite"
PATIENCE = 5.0  # seconds to wait for another process

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    hash TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, crc INTEGER, tensor TEXT
);
CREATE TABLE IF NOT EXISTS model (
    path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, whole INTEGER
);
CREATE TABLE IF NOT EXISTS tensor (
    hash TEXT, path TEXT, tensor TEXT, at INTEGER, size INTEGER, crc INTEGER,
    PRIMARY KEY (path, tensor)
);
CREATE INDEX IF NOT EXISTS tensor_by_hash ON tensor (hash);
"""

log = logging.getLogger(__name__)


class Stamp(NamedTuple):
    """What changes when a file does."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """That of a file."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


class EntryRecord(NamedTuple):
    """An entry of the cache.

    Attributes:
        size: bytes, when its checksum was taken.
        mtime_ns: when it had been written then.
        crc: the CRC-32 of its bytes.
        tensor: the name of the tensor that it was first sent for, "" where that is not
            known.
    """

    size: int
    mtime_ns: int
    crc: int
    tensor: str


class ModelTensor(NamedTuple):
    """A tensor that lies in a model's file.

    Attributes:
        hash: of its bytes, 16 hexadecimal digits.
        path: the file.
        tensor: its name.
        at: where it begins in the file.
        size: bytes.
        crc: the CRC-32 of its bytes.
        stamp: the file's, when that was found out.
    """

    hash: str
    path: str
    tensor: str
    at: int
    size: int
    crc: int
    stamp: Stamp


class Index:
    """The database.

    Args:
        folder: that of the cache.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._lock = Lock()
        self._closed = False
        self._database = self._open()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._closed = True
            self._database.close()

    def entry(self, name: str) -> EntryRecord | None:
        """What is known of an entry."""
        rows = self._rows(
            "SELECT size, mtime_ns, crc, tensor FROM entry WHERE hash = ?", name
        )
        return EntryRecord(*rows[0]) if rows else None

    def entries(self) -> dict[str, EntryRecord]:
        """What is known of all entries, by name."""
        rows = self._rows("SELECT hash, size, mtime_ns, crc, tensor FROM entry")
        return {row[0]: EntryRecord(*row[1:]) for row in rows}

    def add_entry(self, name: str, known: EntryRecord) -> None:
        """Remember an entry."""
        self._rows("REPLACE INTO entry VALUES (?, ?, ?, ?, ?)", name, *known)

    def forget_entries(self, names: Iterable[str]) -> None:
        """Entries have gone."""
        for name in names:
            self._rows("DELETE FROM entry WHERE hash = ?", name)

    def model_tensors(self, name: str | None = None) -> list[ModelTensor]:
        """The tensors in models' files that have a hash; all where it is None."""
        rows = self._rows(
            "SELECT t.hash, t.path, t.tensor, t.at, t.size, t.crc, "
            "m.size, m.mtime_ns, m.inode FROM tensor t JOIN model m USING (path) "
            + ("" if name is None else "WHERE t.hash = ?"),
            *(() if name is None else (name,)),
        )
        return [_model_tensor(row[:6], Stamp(*row[6:])) for row in rows]

    def known_tensors(self, path: str, stamp: Stamp) -> dict[str, ModelTensor]:
        """The tensors of a model's file that are indexed, by name.

        What was known of an earlier state of the file is forgotten.
        """
        rows = self._rows(
            "SELECT size, mtime_ns, inode FROM model WHERE path = ?", path
        )
        if not rows or Stamp(*rows[0]) != stamp:
            self.forget_model(path)
            return {}
        rows = self._rows(
            "SELECT hash, path, tensor, at, size, crc FROM tensor WHERE path = ?", path
        )
        return {row[2]: _model_tensor(row, stamp) for row in rows}

    def is_whole(self, path: str, stamp: Stamp) -> bool:
        """Whether all tensors of a model's file are indexed."""
        return bool(
            self._rows(
                "SELECT 1 FROM model WHERE path = ? AND size = ? AND mtime_ns = ? "
                "AND inode = ? AND whole",
                *(path, *stamp),
            )
        )

    def add_model(self, path: str, stamp: Stamp, whole: bool = False) -> None:
        """Begin to index a model's file, or, once it is `whole`, say so."""
        self._rows("REPLACE INTO model VALUES (?, ?, ?, ?, ?)", path, *stamp, whole)

    def add_tensor(self, tensor: ModelTensor) -> None:
        """Remember a tensor of a model's file."""
        self._rows("REPLACE INTO tensor VALUES (?, ?, ?, ?, ?, ?)", *tensor[:6])

    def forget_model(self, path: str) -> None:
        """A model's file has changed, or gone."""
        self._rows("DELETE FROM tensor WHERE path = ?", path)
        self._rows("DELETE FROM model WHERE path = ?", path)

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            if self._closed:  # the server ends, and a session has not noticed
                return []
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:  # locked, or a full disk
                log.warning("%s: %s; going on without it", self._path, error)
            except sqlite3.DatabaseError as error:
                log.warning("%s: %s; it is begun anew", self._path, error)
                self._database.close()
                self._path.unlink(missing_ok=True)
                self._database = self._open()
            return []

    def _open(self) -> sqlite3.Connection:
        try:
            return _connected(str(self._path))
        except sqlite3.OperationalError as error:
            log.warning("%s: %s; nothing is kept in it", self._path, error)
        except sqlite3.DatabaseError as error:
            log.warning("%s: %s; it is begun anew", self._path, error)
            try:
                self._path.unlink(missing_ok=True)
                return _connected(str(self._path))
            except (OSError, sqlite3.Error):
                pass  # it stays in memory, then
        return _connected(":memory:")


def _model_tensor(row: Sequence[Any], stamp: Stamp) -> ModelTensor:
    name, path, tensor, at, size, crc = row
    return ModelTensor(name, path, tensor, at, size, crc, stamp)


def _connected(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        # A hint need not be on the disk before the next statement.
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database
