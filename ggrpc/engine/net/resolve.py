"""Resolves host names to addresses within a deadline."""

from __future__ import annotations

import socket
from threading import Thread

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import Deadline
from ggrpc.errors import ConnectError, TransportTimeout


def addresses_of(endpoint: Endpoint, deadline: Deadline) -> list[Endpoint]:
    """The addresses of a host, each once and in the order of the resolver.

    Raises:
        ConnectError: the host has no address.
        TransportTimeout: the resolver did not answer in time.
    """
    try:
        return _asked(endpoint, socket.AI_NUMERICHOST)  # needs no resolver
    except (OSError, UnicodeError):
        return _resolved(endpoint, deadline)


def _asked(endpoint: Endpoint, flags: int = 0) -> list[Endpoint]:
    found = socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM, flags=flags)
    hosts = dict.fromkeys(_host(address) for *_, address in found)
    return [Endpoint(host, endpoint.port) for host in hosts]


def _host(address: tuple[object, ...]) -> str:
    """The address as text, with the interface that a link-local one is bound to."""
    scope = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{scope}" if scope else str(address[0])


def _resolved(endpoint: Endpoint, deadline: Deadline) -> list[Endpoint]:
    """Ask the resolver in a thread, because it has no deadline of its own."""
    found: list[Endpoint] = []
    reasons: list[Exception] = []

    def resolve() -> None:
        try:
            found.extend(_asked(endpoint))
        except (OSError, UnicodeError) as error:
            reasons.append(error)

    thread = Thread(target=resolve, name=f"resolve {endpoint}", daemon=True)
    thread.start()
    thread.join(deadline.timeout())
    if found:
        return found
    if not reasons:
        raise TransportTimeout(
            f"cannot find {endpoint}: the resolver did not answer within "
            f"{deadline.seconds:g} s; check DNS, or use an address",
            endpoint=str(endpoint),
        )
    reason = getattr(reasons[0], "strerror", None) or reasons[0]
    raise ConnectError(
        f"cannot find {endpoint}: {reason}; is the name right?", endpoint=str(endpoint)
    )
