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
from ggrpc.engine.server.connection_handler import Conversation
from ggrpc.engine.server.limits import Limits
from ggrpc.errors import RefusedError

# Whoever has one address of IPv6 has at least so much of a network.
NETWORK = 64


@dataclass(eq=False)
class Guest:
    """One connection, and the thread that serves it.

    Attributes:
        stream: the connection.
        conversation: what is said there.
        thread: serves it.
        leaves: whether it was told to.
    """

    stream: Stream
    conversation: Conversation
    thread: Thread = field(init=False)
    leaves: bool = False

    @property
    def network(self) -> str:
        """Whose it is: an address, or the network of one of IPv6."""
        return network_of(self.stream.endpoint.host)


class Guests:
    """Those who are connected; its methods are thread-safe.

    Args:
        limits: how many there may be.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = Lock()  # guards the two below
        self._present: set[Guest] = set()
        self._by_network: Counter[str] = Counter()

    def add(self, guest: Guest) -> Guest | None:
        """Let one in.

        Returns:
            The one that had to make way, if one had.

        Raises:
            RefusedError: there are too many, and none can.
        """
        limits, network = self._limits, guest.network
        with self._lock:
            leaving = None
            if self._by_network[network] >= limits.clients_per_address:
                theirs = (g for g in self._present if g.network == network)
                leaving = self._make_way(theirs, "--max-clients-per-address")
            elif self._by_network.total() >= limits.clients:
                leaving = self._make_way(self._present, "--max-clients")
            self._present.add(guest)
            self._by_network[network] += 1
            return leaving

    def make_room(self) -> Guest | None:
        """Let one go that can, whoever it is; None where none can."""
        with self._lock:
            try:
                return self._make_way(self._present, "")
            except RefusedError:
                return None

    def remove(self, guest: Guest) -> None:
        """One has gone."""
        with self._lock:
            self._present.remove(guest)
            if not guest.leaves:
                self._count_out(guest)

    def all(self) -> list[Guest]:
        """Those who are here."""
        with self._lock:
            return list(self._present)

    def _make_way(self, guests: Iterable[Guest], flag: str) -> Guest:
        free = [g for g in guests if not (g.leaves or g.conversation.holds_memory)]
        if not free:
            raise RefusedError(f"there are as many clients as {flag} allows")
        silent = min(free, key=lambda guest: guest.conversation.heard_at)
        silent.leaves = True
        self._count_out(silent)
        silent.stream.shut()
        return silent

    def _count_out(self, guest: Guest) -> None:
        self._by_network[guest.network] -= 1
        if not self._by_network[guest.network]:
            del self._by_network[guest.network]


def network_of(host: str) -> str:
    """What connections from an address are counted by."""
    address = ip_address(host.partition("%")[0])
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(int(address) >> (128 - NETWORK))
