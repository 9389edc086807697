"""The SQLite database with the checksums and names of the cached tensors.

It is in the folder of the cache, and several processes may use it at the same time. For
a server the database is only a hint: a record is valid while the stamp of its file is
the same, and the checksum is compared before the first use. If the database is lost,
damaged or locked, tensors are hashed again and a warning is logged.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ggrpc.errors import FileError

FILE = "ggrpc.sqlite"
BUSY_TIMEOUT = 5.0  # seconds to wait for a lock of another process

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
    """The size, modification time and inode of a file: they change when it does."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Stamp:
        """The stamp of a file."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)


class EntryRecord(NamedTuple):
    """The record of an entry of the cache.

    Attributes:
        size: the size in bytes when the checksum was computed.
        mtime_ns: the modification time when the checksum was computed.
        crc: the CRC-32 of the bytes.
        tensor: the name of the first tensor with these bytes; "" if it is unknown.
    """

    size: int
    mtime_ns: int
    crc: int
    tensor: str


class ModelTensor(NamedTuple):
    """The record of a tensor in a model file.

    Attributes:
        hash: the hash of its bytes, 16 hexadecimal digits.
        path: the model file.
        tensor: the name of the tensor.
        offset: the offset of its first byte in the file.
        size: its size in bytes.
        crc: the CRC-32 of its bytes.
        stamp: the stamp of the file when the tensor was hashed.
    """

    hash: str
    path: str
    tensor: str
    offset: int
    size: int
    crc: int
    stamp: Stamp


class Access(Enum):
    """How an index uses its file.

    Attributes:
        HINT: reads and writes; if that fails, the index continues in memory.
        REQUIRED: reads and writes; a failure is an error.
        READ: only reads; writes do nothing.
    """

    HINT = "hint"
    REQUIRED = "required"
    READ = "read"


class Index:
    """The database of a cache.

    Args:
        folder: the folder of the cache.
        access: how to use the file.

    Raises:
        FileError: `access` is REQUIRED, and the file cannot be written. All methods
            raise it too.
    """

    def __init__(self, folder: Path, access: Access = Access.HINT) -> None:
        self._path = folder / FILE
        self._access = access
        self._lock = Lock()
        self._closed = False
        self._database = self._open()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._closed = True
            self._database.close()

    def entry(self, name: str) -> EntryRecord | None:
        """The record of an entry; None if there is none."""
        rows = self._execute(
            "SELECT size, mtime_ns, crc, tensor FROM entry WHERE hash = ?", name
        )
        return EntryRecord(*rows[0]) if rows else None

    def entries(self) -> dict[str, EntryRecord]:
        """The records of all entries, by name."""
        rows = self._execute("SELECT hash, size, mtime_ns, crc, tensor FROM entry")
        return {row[0]: EntryRecord(*row[1:]) for row in rows}

    def add_entry(self, name: str, record: EntryRecord) -> None:
        """Add or replace the record of an entry."""
        self._execute("REPLACE INTO entry VALUES (?, ?, ?, ?, ?)", name, *record)

    def forget_entries(self, names: Iterable[str]) -> None:
        """Delete the records of entries."""
        for name in names:
            self._execute("DELETE FROM entry WHERE hash = ?", name)

    def model_tensors(self, name: str | None = None) -> list[ModelTensor]:
        """The tensors in model files with the hash `name`; None for all."""
        rows = self._execute(
            "SELECT t.hash, t.path, t.tensor, t.at, t.size, t.crc, "
            "m.size, m.mtime_ns, m.inode FROM tensor t JOIN model m USING (path) "
            + ("" if name is None else "WHERE t.hash = ?"),
            *(() if name is None else (name,)),
        )
        return [_model_tensor(row[:6], Stamp(*row[6:])) for row in rows]

    def known_tensors(self, path: str, stamp: Stamp) -> dict[str, ModelTensor]:
        """The indexed tensors of a model file, by name.

        If the stamp has changed, the records of the file are deleted.
        """
        rows = self._execute(
            "SELECT size, mtime_ns, inode FROM model WHERE path = ?", path
        )
        if not rows or Stamp(*rows[0]) != stamp:
            self.forget_model(path)
            return {}
        rows = self._execute(
            "SELECT hash, path, tensor, at, size, crc FROM tensor WHERE path = ?", path
        )
        return {row[2]: _model_tensor(row, stamp) for row in rows}

    def is_complete(self, path: str, stamp: Stamp) -> bool:
        """Whether all tensors of a model file are indexed."""
        return bool(
            self._execute(
                "SELECT 1 FROM model WHERE path = ? AND size = ? AND mtime_ns = ? "
                "AND inode = ? AND whole",
                *(path, *stamp),
            )
        )

    def add_model(self, path: str, stamp: Stamp, complete: bool = False) -> None:
        """Add a model file, or record that its index is complete."""
        values = (path, *stamp, complete)
        self._execute("REPLACE INTO model VALUES (?, ?, ?, ?, ?)", *values)

    def add_tensor(self, tensor: ModelTensor) -> None:
        """Add or replace the record of a tensor in a model file."""
        self._execute("REPLACE INTO tensor VALUES (?, ?, ?, ?, ?, ?)", *tensor[:6])

    def forget_model(self, path: str) -> None:
        """Delete the records of a model file."""
        self._execute("DELETE FROM tensor WHERE path = ?", path)
        self._execute("DELETE FROM model WHERE path = ?", path)

    def _execute(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            if self._closed:  # a session may outlive the cache during shutdown
                return []
            if self._access is Access.READ and not statement.startswith("SELECT"):
                return []
            try:
                return self._database.execute(statement, values).fetchall()
            except sqlite3.OperationalError as error:  # locked, or the disk is full
                self._check_not_required(error)
                log.warning(
                    "cannot use %s: %s; continuing without it", self._path, error
                )
            except sqlite3.DatabaseError as error:
                self._database.close()
                if self._access is Access.READ:
                    log.warning("%s is damaged: %s", self._path, error)
                    self._database = _connect(":memory:")
                    return []
                log.warning("%s is damaged: %s; creating a new one", self._path, error)
                self._path.unlink(missing_ok=True)
                self._database = self._open()
            return []

    def _check_not_required(self, error: sqlite3.Error) -> None:
        if self._access is Access.REQUIRED:
            raise FileError(
                f"cannot write {self._path}: {error}; check the folder and its disk"
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._access is Access.READ:
            return self._open_to_read()
        try:
            return _connect(str(self._path))
        except sqlite3.OperationalError as error:
            self._check_not_required(error)
            log.warning("cannot open %s: %s; using memory instead", self._path, error)
        except sqlite3.DatabaseError as error:
            log.warning("%s is damaged: %s; creating a new one", self._path, error)
            try:
                self._path.unlink(missing_ok=True)
                return _connect(str(self._path))
            except (OSError, sqlite3.Error):
                pass  # use memory instead
        return _connect(":memory:")

    def _open_to_read(self) -> sqlite3.Connection:
        if not self._path.exists():
            return _connect(":memory:")
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        try:
            return sqlite3.connect(
                *(uri, BUSY_TIMEOUT),
                isolation_level=None,
                check_same_thread=False,
                uri=True,
            )
        except sqlite3.Error as error:
            log.warning("cannot read %s: %s", self._path, error)
            return _connect(":memory:")


def _model_tensor(row: Sequence[Any], stamp: Stamp) -> ModelTensor:
    name, path, tensor, offset, size, crc = row
    return ModelTensor(name, path, tensor, offset, size, crc, stamp)


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
    )
    try:
        # The database is only a hint, so it need not survive a power failure.
        database.execute("PRAGMA synchronous = OFF")
        database.executescript(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database
