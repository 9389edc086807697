"""Which version a HELLO is answered with.

A client never says its own version: one of 1.x to 3.x sends an empty HELLO, a later one
24 bytes, and one that cannot live with the answer just hangs up. So what a client hung
up on is not what it is offered the next time, and what it went on with is remembered.
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

# What is offered after what, for each size of HELLO: versions that were in use for long
# come early. A client goes on with a server of its own major version and no higher
# minor one, although a lower one may serve it wrongly: so 3.6 comes before 3.5, and
# that before 3.0. For one of 5.1, 5.0 is as good as its own.
FALLBACK_ORDER = (
    *(V8_0_0, V7_0_0, V5_0_0, V4_0_3, V6_0_0),
    *(V3_6_1, V2_0_0, V3_5_0, V3_0_0, V1_0_0),
)
MAX_HOSTS = 1000


class Negotiator(Protocol):
    """Decides what a client is offered; its methods are thread-safe."""

    def offer(self, host: str, hello_size: int) -> Dialect:
        """What to answer a HELLO of so many bytes from an address with.

        Raises:
            RemoteProtocolError: nothing suits it.
        """

    def accepted(self, host: str, dialect: Dialect) -> None:
        """A client sent something after this answer."""

    def rejected(self, host: str, dialect: Dialect) -> None:
        """A client left right after this answer."""


class FixedNegotiator:
    """The same for everybody.

    Args:
        dialects: one for each size of HELLO that is answered at all.
    """

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = dialects

    def __str__(self) -> str:
        return " and ".join(str(dialect.version) for dialect in self._dialects)

    def offer(self, host: str, hello_size: int) -> Dialect:
        return _first_of(self._dialects, hello_size)

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Nothing to learn from that."""

    def rejected(self, host: str, dialect: Dialect) -> None:
        log.info(
            "%s hung up on protocol %s, which --protocol fixes", host, dialect.version
        )


class AdaptiveNegotiator:
    """The newest at first, and then what a client was seen to go on with.

    Args:
        state: the file that keeps it over restarts; None: nothing is kept.
    """

    def __init__(self, state: Path | None = None) -> None:
        self._state = state
        self._lock = threading.Lock()  # guards the two below
        # Apart, so that no greeting waits for a slow disk.
        self._writing = threading.Lock()
        # By address, the newest first.
        self._accepted: dict[str, list[Dialect]] = _read(state) if state else {}
        self._refused: dict[str, set[Dialect]] = {}

    def __str__(self) -> str:
        versions = [dialect.version for dialect in FALLBACK_ORDER]
        return f"{min(versions)} to {max(versions)}"

    def offer(self, host: str, hello_size: int) -> Dialect:
        with self._lock:
            refused = self._refused.get(host, set())
            order = [*self._accepted.get(host, ()), *FALLBACK_ORDER]
            untried = [dialect for dialect in order if dialect not in refused]
            if not any(d.hello_size == hello_size for d in untried):
                # It hung up on all of them: for another reason, so begin again.
                refused -= {d for d in refused if d.hello_size == hello_size}
                untried = order
        return _first_of(untried, hello_size)

    def accepted(self, host: str, dialect: Dialect) -> None:
        with self._lock:
            self._refused.pop(host, None)
            known = self._accepted.get(host, [])
            best = _first_of([*known, *FALLBACK_ORDER], dialect.hello_size)
            if dialect is best:
                return
            self._accepted.pop(host, None)
            self._accepted[host] = [dialect, *(d for d in known if d is not dialect)]
            if len(self._accepted) > MAX_HOSTS:
                del self._accepted[next(iter(self._accepted))]
            log.info("%s goes on with protocol %s: remembered", host, dialect.version)
        if self._state:
            with self._writing:
                _write(self._state, self._snapshot())

    def rejected(self, host: str, dialect: Dialect) -> None:
        with self._lock:
            if len(self._refused) > MAX_HOSTS:
                self._refused.clear()
            self._refused.setdefault(host, set()).add(dialect)
        log.info(
            "%s hung up on protocol %s: it will be offered %s at its next try",
            *(host, dialect.version, self.offer(host, dialect.hello_size).version),
        )

    def _snapshot(self) -> dict[str, list[Dialect]]:
        with self._lock:
            return dict(self._accepted)


def state_file() -> Path:
    """Where what was learned is kept, by the XDG base directory specification."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "ggrpc" / "clients.json"


def _first_of(dialects: Sequence[Dialect], hello_size: int) -> Dialect:
    for dialect in dialects:
        if dialect.hello_size == hello_size:
            return dialect
    offered = " and ".join(str(dialect.version) for dialect in dialects)
    raise RemoteProtocolError(
        f"a HELLO of {hello_size} bytes suits no protocol offered here ({offered}); "
        "choose others with --protocol"
    )


def _read(state: Path) -> dict[str, list[Dialect]]:
    """What the file holds; a version that is not spoken any more is left out."""
    by_name = {str(dialect.version): dialect for dialect in DIALECTS}
    try:
        kept = json.loads(state.read_text())
        return {
            str(host): [by_name[name] for name in names if name in by_name]
            for host, names in kept["clients"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read (%s): versions are learned anew", state, error)
        return {}


def _write(state: Path, accepted: dict[str, list[Dialect]]) -> None:
    """Write beside and rename, so that the file is whole at any time."""
    clients = {host: [str(d.version) for d in ds] for host, ds in accepted.items()}
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        with replacing(state) as file:
            file.write(json.dumps({"clients": clients}, indent=1).encode())
    except OSError as error:
        log.warning("%s cannot be written: %s", state, error.strerror)
