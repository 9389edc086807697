"""Lists of networks: the addresses that may connect to a server, or link with it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from ggrpc.errors import ConfigError


class Allowlist:
    """The networks whose addresses may connect.

    Args:
        networks: addresses and networks, such as `10.0.0.0/8` or `fd00::/8`. An empty
            list allows every address.
        flag: the command-line flag that sets the list, for messages.

    Raises:
        ConfigError: an entry is not a network.
    """

    def __init__(self, networks: Sequence[str] = (), flag: str = "--allow") -> None:
        try:
            self._networks = [ip_network(text.strip()) for text in networks]
        except ValueError as error:
            raise ConfigError(
                f"{flag}: {error}; write an address, or a network such as 10.0.0.0/8"
            ) from None

    @property
    def allows_all(self) -> bool:
        """Whether every address is allowed."""
        return not self._networks

    def allows(self, host: str) -> bool:
        """Whether an address is allowed; an IPv4 address may be IPv4-mapped."""
        return self.allows_all or self.contains(host)

    def contains(self, host: str) -> bool:
        """Whether an address is in one of the networks."""
        address = plain_address(host)
        return any(address in network for network in self._networks)


def plain_address(host: str) -> IPv4Address | IPv6Address:
    """Parse an address: without its scope, and as IPv4 if it is IPv4-mapped."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address
