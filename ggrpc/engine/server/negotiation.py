"""Version negotiation: which protocol version the answer to HELLO offers.

A client does not send its own version. Versions 1.x to 3.x send an empty HELLO, later
ones 24 bytes. A client that rejects the offered version closes the connection without
another byte. So the next offer to the same host is another version, and a version that
a client accepted is remembered.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ggrpc.atomic_file import replacing
from ggrpc.engine.wire.dialects import (
    DIALECTS,
    NEWEST,
    V1_0_0,
    V2_0_0,
    V3_0_0,
    V3_5_0,
    V3_6_1,
    V4_0_3,
    V5_0_0,
    V6_0_0,
    V7_0_0,
    V8_0_0,
    Dialect,
)
from ggrpc.engine.wire.forks import forks_rejecting
from ggrpc.errors import RemoteProtocolError

log = logging.getLogger(__name__)

# The order of offers, filtered by the size of HELLO. Versions that were in use for long
# come early. A client accepts its own major version with the same or a lower minor
# version, although a lower one may be wrong for it: so 3.6 comes before 3.5, and 3.5
# before 3.0. 5.1 is left out, because 5.0 is equally right for its clients.
FALLBACK_ORDER = (
    *(V8_0_0, V7_0_0, V5_0_0, V4_0_3, V6_0_0),
    *(V3_6_1, V2_0_0, V3_5_0, V3_0_0, V1_0_0),
)
MAX_HOSTS = 1000  # to remember


class Negotiator(Protocol):
    """Chooses the version for each client; thread-safe."""

    def offer(self, host: str, hello_size: int) -> Dialect:
        """Choose the dialect for a client.

        Args:
            host: the client's address.
            hello_size: bytes of its HELLO, without the header.

        Raises:
            RemoteProtocolError: no dialect has a HELLO of this size.
        """

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Record that a client sent a request after this offer."""

    def rejected(self, host: str, dialect: Dialect) -> None:
        """Record that a client closed the connection right after this offer."""


class FixedNegotiator:
    """Offers the same versions to all clients.

    Args:
        dialects: one dialect for each size of HELLO that gets an answer.
    """

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = dialects

    def __str__(self) -> str:
        return " and ".join(str(dialect.version) for dialect in self._dialects)

    def offer(self, host: str, hello_size: int) -> Dialect:
        """Choose the dialect that has this size of HELLO."""
        return _first_of(self._dialects, hello_size)

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Do nothing."""

    def rejected(self, host: str, dialect: Dialect) -> None:
        """Log the rejection."""
        log.info(
            "%s rejected protocol %s; --protocol allows no other", host, dialect.version
        )


class AdaptiveNegotiator:
    """Offers the newest version first, and later the one that a host accepted.

    Args:
        state: a file that keeps accepted versions between runs; None keeps nothing.
    """

    def __init__(self, state: Path | None = None) -> None:
        self._state = state
        self._lock = threading.Lock()  # guards the two below
        # By host, the most recently accepted first.
        self._accepted: dict[str, list[Dialect]] = _read(state) if state else {}
        self._rejected: dict[str, set[Dialect]] = {}  # since the last acceptance
        # Guards the file. Separate, so that no HELLO waits for a slow disk.
        self._writing = threading.Lock()

    def __str__(self) -> str:
        versions = [dialect.version for dialect in FALLBACK_ORDER]
        return f"{min(versions)} to {max(versions)}"

    def offer(self, host: str, hello_size: int) -> Dialect:
        """Choose the first dialect in order that the host has not rejected."""
        with self._lock:
            order = self._untried(host, hello_size)
            if not order:
                # The host rejected all of them, so the version is not the reason.
                rejected = self._rejected.get(host, set())
                rejected -= {d for d in rejected if d.hello_size == hello_size}
                order = self._order(host)
        return _first_of(order, hello_size)

    def _order(self, host: str) -> list[Dialect]:
        return [*self._accepted.get(host, ()), *FALLBACK_ORDER]

    def _untried(self, host: str, hello_size: int) -> list[Dialect]:
        """The dialects with this size of HELLO that a host has not rejected."""
        rejected = self._rejected.get(host, set())
        return [
            dialect
            for dialect in self._order(host)
            if dialect.hello_size == hello_size and dialect not in rejected
        ]

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Remember the dialect for the host, and write the state file."""
        with self._lock:
            self._rejected.pop(host, None)
            known = self._accepted.get(host, [])
            best = _first_of([*known, *FALLBACK_ORDER], dialect.hello_size)
            if dialect is best:
                return
            self._accepted.pop(host, None)
            self._accepted[host] = [dialect, *(d for d in known if d is not dialect)]
            if len(self._accepted) > MAX_HOSTS:
                del self._accepted[next(iter(self._accepted))]
            log.info("%s accepted protocol %s: remembered", host, dialect.version)
        if self._state:
            with self._writing:
                _write(self._state, self._snapshot())

    def rejected(self, host: str, dialect: Dialect) -> None:
        """Offer another dialect to the host next time."""
        with self._lock:
            if len(self._rejected) > MAX_HOSTS:
                self._rejected.clear()
            self._rejected.setdefault(host, set()).add(dialect)
            rejects_all = not self._untried(host, dialect.hello_size)
        following = self.offer(host, dialect.hello_size).version
        if rejects_all:
            log.warning("%s %s", host, _rejects_all(dialect.hello_size))
        else:
            log.info(
                "%s rejected protocol %s: the next offer is %s",
                *(host, dialect.version, following),
            )

    def _snapshot(self) -> dict[str, list[Dialect]]:
        with self._lock:
            return dict(self._accepted)


def state_file() -> Path:
    """The default state file, by the XDG base directory specification."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "ggrpc" / "clients.json"


def _rejects_all(hello_size: int) -> str:
    """What to say of a client that rejected every version with this size of HELLO."""
    offered = [d.version for d in FALLBACK_ORDER if d.hello_size == hello_size]
    forks = " and ".join(fork.name for fork in forks_rejecting(hello_size))
    versions = ", ".join(map(str, sorted(offered)))
    said = f"rejected every protocol version offered: {versions}"
    if hello_size == NEWEST.hello_size:
        return (
            f"{said}; newer than {NEWEST.version}? Install a newer ggrpc here or a "
            f"llama.cpp of protocol {NEWEST.version} there; clients of {forks} need "
            "their own server"
        )
    return f"{said}; a client of {forks}? It needs its own server"


def _first_of(dialects: Sequence[Dialect], hello_size: int) -> Dialect:
    for dialect in dialects:
        if dialect.hello_size == hello_size:
            return dialect
    offered = " and ".join(str(dialect.version) for dialect in dialects)
    raise RemoteProtocolError(
        f"a HELLO of {hello_size} bytes fits no protocol version offered here "
        f"({offered}); choose others with --protocol"
    )


def _read(state: Path) -> dict[str, list[Dialect]]:
    """The versions in a state file, without those that ggrpc does not know."""
    by_name = {str(dialect.version): dialect for dialect in DIALECTS}
    try:
        content = json.loads(state.read_text())
        return {
            str(host): [by_name[name] for name in names if name in by_name]
            for host, names in content["clients"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): starting without it", state, error)
        return {}


def _write(state: Path, accepted: dict[str, list[Dialect]]) -> None:
    clients = {host: [str(d.version) for d in ds] for host, ds in accepted.items()}
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        with replacing(state) as file:
            file.write(json.dumps({"clients": clients}, indent=1).encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", state, error.strerror)
