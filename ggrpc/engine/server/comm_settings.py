"""The rules for links between a server's devices and those of other servers.

A client chooses the host and port of a link. These rules decide who may connect to a
port that the server opens, and where the server itself may connect.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ssl import SSLContext

from ggrpc.engine.server.allowlist import Allowlist, plain_address
from ggrpc.engine.wire import messages as m
from ggrpc.errors import RefusedError

MIN_PORT = 1024  # below are the ports of the system's own services


@dataclass(frozen=True)
class CommSettings:
    """Which links a server may set up between its devices and other servers'.

    Attributes:
        enabled: whether links are allowed at all.
        host: the address to listen on as rank 0.
        allowlist: the addresses that may connect to the server.
        peers: further addresses that may connect on rank 0, and the only ones that
            rank 1 connects to. None for those in `allowlist`.
        server_tls: the context for rank 0; None for a plain connection.
        client_tls: the context for rank 1. A server with TLS needs both for a link.
        timeout: how many seconds the other server may be silent during a reduction.
    """

    enabled: bool = True
    host: str = "127.0.0.1"
    allowlist: Allowlist = field(default_factory=Allowlist)
    peers: Allowlist | None = None
    server_tls: SSLContext | None = None
    client_tls: SSLContext | None = None
    timeout: float = 120.0

    def check(self, request: m.CommInit, client: str) -> None:
        """Check a request before a port is opened or a name is looked up.

        Args:
            request: the client's request.
            client: the client's address.

        Raises:
            RefusedError: the server does not allow this link.
        """
        if not self.enabled:
            raise RefusedError("--no-comm is set")
        if request.world != 2 or request.rank > 1:
            raise RefusedError(
                f"rank {request.rank} of {request.world}: ggrpc links two servers"
            )
        if not MIN_PORT <= request.port < 1 << 16:
            raise RefusedError(f"port {request.port} is not from {MIN_PORT} to 65535")
        if self.server_tls and not self.client_tls:
            raise RefusedError("with --tls-cert a link needs --tls-client-ca too")
        if request.rank == 1 and not (self._names_peers or _is_loopback(client)):
            raise RefusedError("name the servers to connect to with --comm-peers")

    def admits(self, host: str) -> bool:
        """Whether an address may connect on rank 0."""
        named = self.peers is not None and self.peers.contains(host)
        return named or self.allowlist.allows(host)

    def may_connect(self, host: str, client: str) -> bool:
        """Whether rank 1 may connect to an address.

        A client on another machine cannot make the server connect to this machine's
        own services, unless `peers` names loopback.

        Args:
            host: the address.
            client: the address of the client that asks for it.
        """
        address = plain_address(host)
        if address.is_loopback or address.is_unspecified:
            named = self.peers is not None and self.peers.contains(host)
            return named or (address.is_loopback and _is_loopback(client))
        return (self.peers or self.allowlist).contains(host)

    @property
    def _names_peers(self) -> bool:
        return not (self.peers or self.allowlist).allows_all


def _is_loopback(host: str) -> bool:
    return plain_address(host).is_loopback
