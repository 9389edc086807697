"""Which addresses may connect."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network

from ggrpc.errors import ConfigError


class Allowed:
    """The networks whose addresses may connect; none given: everybody.

    Args:
        networks: each an address, or a network as in `10.0.0.0/8` or `fd00::/8`.

    Raises:
        ConfigError: one is none.
    """

    def __init__(self, networks: Sequence[str] = ()) -> None:
        try:
            self._networks = [ip_network(text.strip()) for text in networks]
        except ValueError as error:
            raise ConfigError(
                f"--allow: {error}; write an address, or a network such as 10.0.0.0/8"
            ) from None

    @property
    def everybody(self) -> bool:
        """Whether no address is refused."""
        return not self._networks

    def admits(self, host: str) -> bool:
        """Whether an address may connect; one of IPv4 may be written as of IPv6."""
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return self.everybody or any(address in network for network in self._networks)
