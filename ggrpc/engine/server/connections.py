"""The table of open connections, which limits their number.

If the table is full, the connection that holds no memory and has been idle longest is
closed in favour of a new one. So idle connections cannot lock out other clients, and a
probe is answered. If all connections hold memory, the new one is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from threading import Lock, Thread

from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.connection_handler import ConnectionHandler
from ggrpc.engine.server.limits import Limits
from ggrpc.errors import RefusedError

# Providers assign IPv6 networks of at least this prefix length to one customer.
IPV6_PREFIX = 64


@dataclass(eq=False)
class OpenConnection:
    """A connection and the thread that serves it.

    Attributes:
        stream: the connection.
        handler: its handler.
        thread: the thread that runs the handler.
        evicted: whether the table has closed it to make room.
    """

    stream: Stream
    handler: ConnectionHandler
    thread: Thread = field(init=False)
    evicted: bool = False

    @property
    def network(self) -> str:
        """What the limit per address counts it by; see `network_of`."""
        return network_of(self.stream.endpoint.host)


class ConnectionTable:
    """The open connections; thread-safe.

    Args:
        limits: the limits, of which this uses the numbers of clients.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()  # guards the two below
        self._open: set[OpenConnection] = set()
        self._by_network: Counter[str] = Counter()  # without the evicted ones

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
                evicted = self._evict(same_network, "--max-clients-per-address")
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
        self, connections: Iterable[OpenConnection], flag: str
    ) -> OpenConnection:
        candidates = [
            c for c in connections if not (c.evicted or c.handler.holds_memory)
        ]
        if not candidates:
            raise RefusedError(f"there are as many clients as {flag} allows")
        idlest = min(candidates, key=lambda c: c.handler.last_request_at)
        idlest.evicted = True
        self._uncount(idlest)
        idlest.handler.cut_off()
        return idlest

    def _uncount(self, connection: OpenConnection) -> None:
        self._by_network[connection.network] -= 1
        if not self._by_network[connection.network]:
            del self._by_network[connection.network]


def network_of(host: str) -> str:
    """An IPv4 or loopback address itself, or the network of an IPv6 address."""
    address = ip_address(host.partition("%")[0])
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(int(address) >> (128 - IPV6_PREFIX))
