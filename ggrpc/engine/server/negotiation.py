"""Version negotiation: which protocol version the answer to HELLO offers.

A client does not send its own version. Clients of versions 1.x to 3.x send an empty
HELLO, later ones 24 bytes. A client that rejects the offered version closes the
connection without another byte (it hangs up), and so does a health check. The
negotiator remembers the versions that the clients at an address use. After a hang-up it
offers the next version, unless the hang-up seems to have had another reason.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from ggrpc.engine.server.client_versions import ClientVersions
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
    Version,
)
from ggrpc.engine.wire.forks import forks_rejecting
from ggrpc.engine.wire.introduction import Maker
from ggrpc.errors import RemoteProtocolError

log = logging.getLogger(__name__)

# The order of offers; only those with the size of the client's HELLO apply. Versions
# that were in use for a long time come early. A client accepts its own major version
# with the same or a lower minor version, although its messages may differ from those of
# the lower one: so 3.6 comes before 3.5, and 3.5 before 3.0. 5.1 is left out, because
# 5.0 works for its clients.
FALLBACK_ORDER = (
    *(V8_0_0, V7_0_0, V5_0_0, V4_0_3, V6_0_0),
    *(V3_6_1, V2_0_0, V3_5_0, V3_0_0, V1_0_0),
)
MAX_HOSTS = 1000  # whose hang-ups are counted
QUIET_SECONDS = 600.0  # without a hang-up, until the earlier ones are forgotten
# A hang-up this long after the offer is a rejection for sure: from 6.0 on, llama.cpp
# prints a backtrace first. Older versions reject as quickly as llama.cpp closes a
# connection that it does not use.
SLOW_SECONDS = 0.2
# How long after the end of a working connection its client may close unused ones.
RECENT_SECONDS = 0.5
# A client that was rejected takes longer than this to be started again and connect.
RESTART_SECONDS = 1.0


class Negotiator(Protocol):
    """Chooses the version for each client; thread-safe."""

    maker: Maker

    def offer(self, host: str, hello_size: int) -> Dialect:
        """Choose the dialect for a client.

        Args:
            host: the client's address.
            hello_size: bytes of its HELLO, without the header.

        Raises:
            RemoteProtocolError: no dialect has a HELLO of this size.
        """

    def offer_to_ggrpc(self, newest: Version, offered: Dialect) -> Dialect:
        """Choose the dialect for a client that speaks every version.

        Args:
            newest: the newest version that it speaks.
            offered: the dialect that was offered in reply to its first HELLO.
        """

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Record that a client sent a request after this offer."""

    def ended(self, host: str, dialect: Dialect) -> None:
        """Record that a connection whose client accepted this offer is closed."""

    def rejected(self, host: str, dialect: Dialect, seconds: float) -> None:
        """Record that a client closed the connection after this offer.

        Args:
            host: the client's address.
            dialect: the offer.
            seconds: the time from the offer to the close.
        """


class FixedNegotiator:
    """Offers the same versions to all clients.

    Args:
        dialects: one dialect for each size of HELLO that gets an answer.
    """

    maker = Maker.GGRPC

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = dialects

    def __str__(self) -> str:
        return " and ".join(str(dialect.version) for dialect in self._dialects)

    def offer(self, host: str, hello_size: int) -> Dialect:
        """Choose the dialect that has this size of HELLO."""
        return _of_size(self._dialects, hello_size)[0]

    def offer_to_ggrpc(self, newest: Version, offered: Dialect) -> Dialect:
        """Stay with the dialect."""
        return offered

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Do nothing."""

    def ended(self, host: str, dialect: Dialect) -> None:
        """Do nothing."""

    def rejected(self, host: str, dialect: Dialect, seconds: float) -> None:
        """Log the rejection."""
        log.info(
            "%s hung up on protocol %s; --protocol allows no other",
            *(host, dialect.version),
            extra={"peer": host},
        )


@dataclass
class _Host:
    """The recent behaviour of one address, for one size of HELLO.

    Attributes:
        working: the number of open connections that accepted an offer, by dialect.
        ended: when the last one of them was closed, on the monotonic clock.
        hang_ups: how many hang-ups count since a client accepted an offer.
        last: when it hung up last, on the monotonic clock.
        has_ignored: whether a hang-up was ignored since a client accepted an offer.
        rejects_all: whether it hung up on every version, as a health check does.
    """

    working: Counter[Dialect] = field(default_factory=Counter)
    ended: dict[Dialect, float] = field(default_factory=dict)
    hang_ups: int = 0
    last: float = -inf
    has_ignored: bool = False
    rejects_all: bool = False


class AdaptiveNegotiator:
    """Offers the version that clients at an address used before, or else the newest.

    After a hang-up it offers another version, and after a second one again the version
    that worked before. Not every hang-up is a rejection, and several machines may share
    an address:

    - llama.cpp opens connections that it closes unused. So one quick hang-up is
      ignored, if another connection of the address works with the same version, or has
      just ended.
    - An address that hangs up on every version is a health check. From then on only the
      versions that work there are offered.

    Args:
        memory: the versions that clients used before.
    """

    maker = Maker.GGRPC_ADAPTIVE

    def __init__(self, memory: ClientVersions | None = None) -> None:
        self._memory = memory or ClientVersions()
        self._lock = threading.Lock()  # guards _hosts
        # By address and size of HELLO, the most recent last.
        self._hosts: OrderedDict[tuple[str, int], _Host] = OrderedDict()

    def __str__(self) -> str:
        versions = [dialect.version for dialect in FALLBACK_ORDER]
        return f"{min(versions)} to {max(versions)}"

    def offer(self, host: str, hello_size: int) -> Dialect:
        """Choose by what the address used before, and by how often it hung up since."""
        known = self._known(host, hello_size)
        with self._lock:
            found = self._hosts.get((host, hello_size))
            return _choice(known, hello_size, found or _Host())

    def offer_to_ggrpc(self, newest: Version, offered: Dialect) -> Dialect:
        """Choose the newest dialect that both sides speak."""
        fits = _of_size(DIALECTS, offered.hello_size)
        both = [d for d in fits if d.version <= newest]
        return both[-1] if both else offered

    def accepted(self, host: str, dialect: Dialect) -> None:
        """Remember the dialect for the host."""
        with self._lock:
            record = self._record(host, dialect)
            record.working[dialect] += 1
            record.hang_ups, record.has_ignored = 0, False
        if self._memory.remember(host, dialect):
            log.info("%s accepted protocol %s: remembered", host, dialect.version)

    def ended(self, host: str, dialect: Dialect) -> None:
        """Record that a connection of the host that worked has ended."""
        with self._lock:
            record = self._record(host, dialect)
            record.working[dialect] -= 1
            record.ended[dialect] = time.monotonic()

    def rejected(self, host: str, dialect: Dialect, seconds: float) -> None:
        """Offer another dialect to the host next time, if the hang-up counts."""
        known, now = self._known(host, dialect.hello_size), time.monotonic()
        with self._lock:
            record = self._record(host, dialect)
            if now - record.last > QUIET_SECONDS:
                record.hang_ups, record.has_ignored, record.rejects_all = (
                    0,
                    False,
                    False,
                )
            # Another client may have hung up on the same offer first.
            is_first = dialect is _choice(known, dialect.hello_size, record)
            counts = seconds > SLOW_SECONDS or not _ignores(record, dialect, now)
            record.last = now
            if is_first and counts:
                self._count(record, host, known, dialect)

    def _count(
        self, record: _Host, host: str, known: Sequence[Dialect], dialect: Dialect
    ) -> None:
        record.hang_ups += 1
        size = dialect.hello_size
        if not record.rejects_all and record.hang_ups >= len(_cycle(known, size)):
            record.rejects_all = True
            log.warning(
                "%s %s; from now on it is offered %s",
                *(host, _rejects_all(size), _choice(known, size, record).version),
                extra={"peer": host},
            )
        elif not record.rejects_all:
            log.info(
                "%s hung up on protocol %s: the next offer is %s",
                *(host, dialect.version, _choice(known, size, record).version),
                extra={"peer": host},
            )

    def _known(self, host: str, hello_size: int) -> list[Dialect]:
        return [d for d in self._memory.known(host) if d.hello_size == hello_size]

    def _record(self, host: str, dialect: Dialect) -> _Host:
        key = host, dialect.hello_size
        record = self._hosts.setdefault(key, _Host())
        self._hosts.move_to_end(key)
        if len(self._hosts) > MAX_HOSTS:
            self._hosts.popitem(last=False)
        return record


def _rejects_all(hello_size: int) -> str:
    """The message about a host that rejected every version with this size of HELLO."""
    offered = [d.version for d in FALLBACK_ORDER if d.hello_size == hello_size]
    forks = " and ".join(fork.name for fork in forks_rejecting(hello_size))
    versions = ", ".join(map(str, sorted(offered)))
    rejected = f"rejected every protocol version offered: {versions}"
    if hello_size == NEWEST.hello_size:
        return (
            f"{rejected}; a health check, or newer than {NEWEST.version}? Install a "
            f"newer ggrpc here or a llama.cpp of protocol {NEWEST.version} there; "
            f"clients of {forks} need their own server"
        )
    return (
        f"{rejected}; a health check, or a client of {forks}? It needs its own server"
    )


def _ignores(record: _Host, dialect: Dialect, now: float) -> bool:
    """Whether to ignore a quick hang-up, because another connection works."""
    ended = record.ended.get(dialect)
    works = record.working[dialect] > 0 or (ended and now - ended < RECENT_SECONDS)
    if not works:
        return False
    ignores = not record.has_ignored or now - record.last < RESTART_SECONDS
    record.has_ignored = True
    return ignores


def _choice(known: Sequence[Dialect], hello_size: int, record: _Host) -> Dialect:
    """The offer after the hang-ups of a host."""
    hang_ups = record.hang_ups
    if time.monotonic() - record.last > QUIET_SECONDS:
        hang_ups = 0
    if record.rejects_all:
        offers = known or _of_size(FALLBACK_ORDER, hello_size)[:1]
    else:
        offers = _cycle(known, hello_size)
    return offers[hang_ups % len(offers)]


def _cycle(known: Sequence[Dialect], hello_size: int) -> list[Dialect]:
    """The offers to make one after the other; every second one is what worked last."""
    order = list(dict.fromkeys([*known, *_of_size(FALLBACK_ORDER, hello_size)]))
    if not known:
        return order
    first, *others = order
    return [dialect for other in others for dialect in (first, other)]


def _of_size(dialects: Sequence[Dialect], hello_size: int) -> list[Dialect]:
    """The dialects with a size of HELLO.

    Raises:
        RemoteProtocolError: there is none.
    """
    if fits := [d for d in dialects if d.hello_size == hello_size]:
        return fits
    offered = " and ".join(str(dialect.version) for dialect in dialects)
    raise RemoteProtocolError(
        f"a HELLO of {hello_size} bytes fits no protocol version offered here "
        f"({offered}); choose others with --protocol"
    )
