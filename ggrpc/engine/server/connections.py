"""The connections that are open: how many there may be, and which makes way.

Where there are too many, the one that was silent longest of those that hold no memory
is closed for the newcomer, so that connections held open for nothing keep nobody out,
and a probe gets its answer. Where all hold memory, the newcomer is refused.
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

# Whoever has one address of IPv6 has at least so much of a network.
NETWORK = 64


@dataclass(eq=False)
class OpenConnection:
    """One connection, and the thread that serves it.

    Attributes:
        stream: the connection.
        handler: what is said there.
        thread: serves it.
        evicted: whether it was told to.
    """

    stream: Stream
    handler: ConnectionHandler
    thread: Thread = field(init=False)
    evicted: bool = False

    @property
    def network(self) -> str:
        """Whose it is: an address, or the network of one of IPv6."""
        return network_of(self.stream.endpoint.host)


class ConnectionTable:
    """Those who are connected; its methods are thread-safe.

    Args:
        limits: how many there may be.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()  # guards the two below
        self._present: set[OpenConnection] = set()
        self._by_network: Counter[str] = Counter()

    def add(self, connection: OpenConnection) -> OpenConnection | None:
        """Let one in.

        Returns:
            The one that had to make way, if one had.

        Raises:
            RefusedError: there are too many, and none can.
        """
        limits, network = self._limits, connection.network
        with self._lock:
            evicted = None
            if self._by_network[network] >= limits.clients_per_address:
                theirs = (g for g in self._present if g.network == network)
                evicted = self._evict(theirs, "--max-clients-per-address")
            elif self._by_network.total() >= limits.clients:
                evicted = self._evict(self._present, "--max-clients")
            self._present.add(connection)
            self._by_network[network] += 1
            return evicted

    def evict_idle(self) -> OpenConnection | None:
        """Let one go that can, whoever it is; None where none can."""
        with self._lock:
            try:
                return self._evict(self._present, "")
            except RefusedError:
                return None

    def remove(self, connection: OpenConnection) -> None:
        """One has gone."""
        with self._lock:
            self._present.remove(connection)
            if not connection.evicted:
                self._count_out(connection)

    def all(self) -> list[OpenConnection]:
        """Those who are here."""
        with self._lock:
            return list(self._present)

    def _evict(
        self, connections: Iterable[OpenConnection], flag: str
    ) -> OpenConnection:
        free = [g for g in connections if not (g.evicted or g.handler.holds_memory)]
        if not free:
            raise RefusedError(f"there are as many clients as {flag} allows")
        silent = min(free, key=lambda connection: connection.handler.heard_at)
        silent.evicted = True
        self._count_out(silent)
        silent.stream.shut()
        return silent

    def _count_out(self, connection: OpenConnection) -> None:
        self._by_network[connection.network] -= 1
        if not self._by_network[connection.network]:
            del self._by_network[connection.network]


def network_of(host: str) -> str:
    """What connections from an address are counted by."""
    address = ip_address(host.partition("%")[0])
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(int(address) >> (128 - NETWORK))
