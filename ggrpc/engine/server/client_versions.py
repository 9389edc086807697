"""Remembers the protocol versions that clients at each address use, in a JSON file.

All servers of a machine share the file. A server reads it again after each change, by
another server or by hand:

    {"clients": {"10.0.0.5": [{"protocol": "7.0.0", "last": "2026-11-29T06:21:36Z"}]}}
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from ggrpc.atomic_file import replacing
from ggrpc.engine.wire.dialects import DIALECTS, Dialect

MAX_HOSTS = 1000
LIFETIME = timedelta(days=30)  # of a version that no client has used
RENEWAL = timedelta(hours=1)  # a time in the file is renewed at most this often

log = logging.getLogger(__name__)


class UsedVersion(NamedTuple):
    """A version that clients at an address used.

    Attributes:
        dialect: the version.
        last: when one of them used it last.
    """

    dialect: Dialect
    last: datetime


Clients = dict[str, tuple[UsedVersion, ...]]


class ClientVersions:
    """The versions that clients used, by address; thread-safe.

    Args:
        file: the JSON file; None keeps the versions in memory only.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()  # guards _clients and _stamp
        self._clients: Clients = {}
        self._stamp: object = None  # of the file that was read
        # Guards writing. Separate, so that no HELLO waits for a slow disk.
        self._writing = threading.Lock()

    def known(self, host: str) -> list[Dialect]:
        """The versions that clients at an address used, the most recent first."""
        return [spoken.dialect for spoken in self.clients().get(host, ())]

    def clients(self) -> Clients:
        """All versions by address, as they are in the file now."""
        with self._lock:
            if self._file and self._stamp != (stamp := _stamp_of(self._file)):
                self._stamp = stamp
                self._clients = _read(self._file)
            return self._clients

    def remember(self, host: str, dialect: Dialect) -> bool:
        """Note that a client uses a version.

        Returns:
            Whether no client at this address has used it before.
        """
        now = datetime.now(UTC)
        spoken = self.clients().get(host, ())
        if spoken and spoken[0].dialect is dialect and now - spoken[0].last < RENEWAL:
            return False
        with self._changing() as clients:
            others = [s for s in clients.pop(host, ()) if s.dialect is not dialect]
            clients[host] = (UsedVersion(dialect, now), *others)
        return all(s.dialect is not dialect for s in spoken)

    def forget(self) -> None:
        """Forget the clients of all addresses."""
        with self._changing() as clients:
            clients.clear()

    @contextmanager
    def _changing(self) -> Iterator[Clients]:
        """The clients to change, in memory and in the file."""
        with self._writing, _locked(self._file):
            clients = dict(self.clients())
            yield clients
            for host in list(clients)[:-MAX_HOSTS]:
                del clients[host]
            with self._lock:
                self._clients = clients
            if self._file and _write(self._file, clients):
                with self._lock:
                    self._stamp = _stamp_of(self._file)


def state_file() -> Path:
    """The default file, by the XDG base directory specification."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "ggrpc" / "clients.json"


def _stamp_of(file: Path) -> object:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@contextmanager
def _locked(file: Path | None) -> Iterator[None]:
    """Keep other servers from writing, if the folder can be locked."""
    with ExitStack() as stack:
        if file is not None:
            with suppress(OSError):  # the write will fail too, and log the reason
                file.parent.mkdir(parents=True, exist_ok=True)
                lock = os.open(file.parent, os.O_RDONLY)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(file: Path) -> Clients:
    """The clients of a file, without versions that ggrpc does not know."""
    try:
        clients = json.loads(file.read_text())["clients"]
        read = {str(host): _spoken(entries) for host, entries in clients.items()}
        return {host: spoken for host, spoken in read.items() if spoken}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        log.warning("%s cannot be read (%s): starting without it", file, reason)
        return {}


def _spoken(entries: list[Any]) -> tuple[UsedVersion, ...]:
    by_name = {str(dialect.version): dialect for dialect in DIALECTS}
    now = datetime.now(UTC)
    spoken = []
    for entry in entries:
        # ggrpc up to 0.1.0 wrote the version alone.
        name = entry if isinstance(entry, str) else entry["protocol"]
        last = now if isinstance(entry, str) else datetime.fromisoformat(entry["last"])
        if name in by_name and now - last < LIFETIME:
            spoken.append(UsedVersion(by_name[name], last))
    return tuple(spoken)


def _write(file: Path, clients: Clients) -> bool:
    content = {
        host: [
            {"protocol": str(s.dialect.version), "last": f"{s.last:%Y-%m-%dT%H:%M:%SZ}"}
            for s in spoken
        ]
        for host, spoken in clients.items()
    }
    try:
        with replacing(file) as target:
            target.write(json.dumps({"clients": content}, indent=1).encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", file, error.strerror)
        return False
    return True
