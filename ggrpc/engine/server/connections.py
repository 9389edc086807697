"""The table of open connections, which limits their number.

If the table is full, a new connection replaces the one that has been idle longest
without holding memory. So idle connections cannot lock out other clients, and probes
get an answer. If all connections hold memory, the new one is refused.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from threading import Lock, Thread

from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.connection_handler import ConnectionHandler
from ggrpc.engine.server.limits import Limits
from ggrpc.errors import RefusedError

# Providers assign IPv6 networks of at least this prefix length to one customer.
IPV6_PREFIX = 64
# Candidates for eviction that one search finds, so that a flood costs few searches.
CANDIDATES = 32
# How long to wait after a search that found no candidate before the next one.
FULL_SECONDS = 0.1


@dataclass(eq=False)
class OpenConnection:
    """A connection and the thread that serves it.

    Attributes:
        stream: the connection.
        handler: its handler.
        thread: the thread that runs the handler, None before the client needs one.
        evicted: whether the table has closed it to make room.
    """

    stream: Stream
    handler: ConnectionHandler
    thread: Thread | None = None
    evicted: bool = False

    @property
    def network(self) -> str:
        """The network that the limit per address counts it for; see `network_of`."""
        return network_of(self.stream.endpoint.host)

    @property
    def can_be_evicted(self) -> bool:
        """Whether the client would lose nothing."""
        return not (self.evicted or self.handler.holds_memory)


class ConnectionTable:
    """The open connections; thread-safe.

    Args:
        limits: the limits, of which only the numbers of clients matter here.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()  # guards all below
        self._open: set[OpenConnection] = set()
        self._by_network: Counter[str] = Counter()  # without the evicted ones
        # The idlest connections and the times of their last requests, by network, or ""
        # for all.
        self._idlest: dict[str, deque[tuple[float, OpenConnection]]] = {}
        # When a search found no candidate, by the same keys.
        self._full_at: dict[str, float] = {}

    def add(self, connection: OpenConnection) -> OpenConnection | None:
        """Add a connection.

        Returns:
            The connection that was evicted for it, if any.

        Raises:
            RefusedError: the table is full, and no connection can be evicted.
        """
        limits, network = self._limits, connection.network
        with self._lock:
            evicted = None
            if self._by_network[network] >= limits.clients_per_address:
                same_network = (c for c in self._open if c.network == network)
                evicted = self._evict(
                    same_network, "--max-clients-per-address", network
                )
            elif self._by_network.total() >= limits.clients:
                evicted = self._evict(self._open, "--max-clients")
            self._open.add(connection)
            self._by_network[network] += 1
            return evicted

    def evict_idle(self) -> OpenConnection | None:
        """Evict the connection that has been idle longest; None if none can be."""
        with self._lock:
            try:
                return self._evict(self._open, "")
            except RefusedError:
                return None

    def remove(self, connection: OpenConnection) -> None:
        """Remove a connection that has ended."""
        with self._lock:
            self._open.remove(connection)
            if not connection.evicted:
                self._uncount(connection)

    def all(self) -> list[OpenConnection]:
        """All open connections, including evicted ones that have not ended."""
        with self._lock:
            return list(self._open)

    def _evict(
        self, connections: Iterable[OpenConnection], flag: str, network: str = ""
    ) -> OpenConnection:
        idlest = self._next_idlest(network) or self._search(connections, network)
        if idlest is None:
            raise RefusedError(f"there are as many clients as {flag} allows")
        idlest.evicted = True
        self._uncount(idlest)
        idlest.handler.cut_off()
        return idlest

    def _next_idlest(self, network: str) -> OpenConnection | None:
        """The next candidate of the last search that may still be evicted."""
        found = self._idlest.get(network, ())
        while found:
            requested_at, connection = found.popleft()
            # All others were idle for less time then, and so they are now.
            if (
                connection.can_be_evicted
                and connection in self._open
                and connection.handler.last_request_at == requested_at
            ):
                return connection
        self._idlest.pop(network, None)
        return None

    def _search(
        self, connections: Iterable[OpenConnection], network: str
    ) -> OpenConnection | None:
        now = time.monotonic()
        if now - self._full_at.get(network, -FULL_SECONDS) < FULL_SECONDS:
            return None
        times = (
            (c.handler.last_request_at, id(c), c)
            for c in connections
            if c.can_be_evicted
        )
        found = heapq.nsmallest(CANDIDATES, times)
        if not found:
            self._full_at[network] = now
            return None
        self._full_at.pop(network, None)
        self._idlest[network] = deque((at, c) for at, _, c in found)
        return self._next_idlest(network)

    def _uncount(self, connection: OpenConnection) -> None:
        self._by_network[connection.network] -= 1
        if not self._by_network[connection.network]:
            del self._by_network[connection.network]
            self._idlest.pop(connection.network, None)
            self._full_at.pop(connection.network, None)


def network_of(host: str) -> str:
    """The network of an IPv6 address; an IPv4 or loopback address stays as it is."""
    address = ip_address(host.partition("%")[0])
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(int(address) >> (128 - IPV6_PREFIX))
