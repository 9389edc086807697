"""Version negotiation: which protocol version the answer to HELLO offers.

A client does not send its own version. Versions 1.x to 3.x send an empty HELLO, later
ones 24 bytes. A client that rejects the offered version closes the connection without
another byte. So the next offer to the same host is another version, and a version that
a client accepted is remembered. A client that uses the offered version may do the same:
llama.cpp opens connections that it closes unused. So it is no rejection while the host
uses that version, or shortly after.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ggrpc.atomic_file import replacing
from ggrpc.engine.wire.dialects import (
    DIALECTS,
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
# Seconds after a session of a host in which a connection that it closes unused is no
# rejection.
RECENT_SECONDS = 2.0


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

    def ended(self, host: str, dialect: Dialect) -> None:
        """Record that the session of a client that accepted this offer has ended."""

    def left(self, host: str, dialect: Dialect) -> None:
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

    def ended(self, host: str, dialect: Dialect) -> None:
        """Do nothing."""

    def left(self, host: str, dialect: Dialect) -> None:
        """Take it for a rejection."""
        self.rejected(host, dialect)

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
        self._lock = threading.Lock()  # guards those below, but for the file
        # By host, the most recently accepted first.
        self._accepted: dict[str, list[Dialect]] = _read(state) if state else {}
        self._rejected: dict[str, set[Dialect]] = {}  # since the last acceptance
        self._open: Counter[tuple[str, Dialect]] = Counter()  # sessions
        self._ended: dict[tuple[str, Dialect], float] = {}  # when the last one did
        self._left: set[tuple[str, Dialect]] = set()  # since the last acceptance
        # Guards the file. Separate, so that no HELLO waits for a slow disk.
        self._writing = threading.Lock()

    def __str__(self) -> str:
        versions = [dialect.version for dialect in FALLBACK_ORDER]
        return f"{min(versions)} to {max(versions)}"

    def offer(self, host: str, hello_size: int) -> Dialect:
        """Choose the first dialect in order that the host has not rejected."""
        with self._lock:
            rejected = self._rejected.get(host, set())
            order = [*self._accepted.get(host, ()), *FALLBACK_ORDER]
            untried = [dialect for dialect in order if dialect not in rejected]
            if not any(d.hello_size == hello_size for d in untried):
                # The host rejected all of them, so the version is not the reason.
                rejected -= {d for d in rejected if d.hello_size == hello_size}
                untried = order
        return _first_of(untried, hello_size)

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Remember the dialect for the host, and write the state file."""
        with self._lock:
            self._open[host, dialect] += 1
            self._left.discard((host, dialect))
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

    def ended(self, host: str, dialect: Dialect) -> None:
        """Note when, for clients that open another connection and close it unused."""
        use = host, dialect
        with self._lock:
            self._open[use] -= 1
            if self._open[use] <= 0:
                del self._open[use]
                self._left.discard(use)
            self._ended.pop(use, None)  # so that the dict is in the order of time
            self._ended[use] = time.monotonic()
            if len(self._ended) > MAX_HOSTS:
                del self._ended[next(iter(self._ended))]

    def left(self, host: str, dialect: Dialect) -> None:
        """Take it for a rejection, unless the host uses the version.

        A client of another version may start on a host with open sessions, so the
        second connection in a row that is closed unused is a rejection there.
        """
        use = host, dialect
        with self._lock:
            ended = self._ended.get(use)
            if ended is not None and time.monotonic() - ended < RECENT_SECONDS:
                return
            if self._open[use] and use not in self._left:
                self._left.add(use)
                return
        self.rejected(host, dialect)

    def rejected(self, host: str, dialect: Dialect) -> None:
        """Offer another dialect to the host next time."""
        with self._lock:
            if len(self._rejected) > MAX_HOSTS:
                self._rejected.clear()
            self._rejected.setdefault(host, set()).add(dialect)
        log.info(
            "%s rejected protocol %s: the next offer is %s",
            *(host, dialect.version, self.offer(host, dialect.hello_size).version),
        )

    def _snapshot(self) -> dict[str, list[Dialect]]:
        with self._lock:
            return dict(self._accepted)


def state_file() -> Path:
    """The default state file, by the XDG base directory specification."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "ggrpc" / "clients.json"


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
