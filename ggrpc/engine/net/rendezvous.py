"""Connects two servers with each other: one listens, the other dials until it succeeds.

Every wait ends at a deadline, or when another thread sets an event.
"""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress
from ssl import SSLContext
from threading import Event

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.resolve import addresses_of
from ggrpc.engine.net.tls import TlsStream, server_streams
from ggrpc.engine.net.transport import Stream, accept, dial, listen
from ggrpc.errors import (
    Cancelled,
    ConnectError,
    RefusedError,
    TransportError,
    TransportTimeout,
)

# Seconds between two tries, and between two looks at whether to stop.
POLL_SECONDS = 0.05
# Seconds of one try to connect: TCP repeats its first packet after a second.
DIAL_SECONDS = 1.0


def await_peer(
    endpoint: Endpoint,
    admits: Callable[[str], bool],
    deadline: Deadline,
    tls: SSLContext | None = None,
    stop: Event | None = None,
) -> Stream:
    """Listen for one connection, and close the port as soon as it is accepted.

    Args:
        endpoint: the address to listen on.
        admits: tells whether an address may connect; others are disconnected.
        deadline: for the wait and the TLS handshake together.
        tls: the context of a TLS server, or None.
        stop: ends the wait when another thread sets it.

    Raises:
        BindError: the address is not available.
        TransportTimeout: nothing connected in time.
        ConnectError: a certificate is not trusted.
        ConnectionLost: the other server closed the connection.
        Cancelled: `stop` was set.
    """
    listeners = listen(endpoint, "free that port, or serve on another --port")
    try:
        stream = _first_admitted(listeners, endpoint, admits, deadline, tls, stop)
    finally:
        for listener in listeners:
            listener.close()
    return _secured(stream, deadline)


def _first_admitted(
    listeners: list[socket.socket],
    endpoint: Endpoint,
    admits: Callable[[str], bool],
    deadline: Deadline,
    tls: SSLContext | None,
    stop: Event | None,
) -> Stream:
    make = server_streams(lambda: tls)
    advice = "does a firewall let it reach that port?"
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ)
        while not deadline.is_over:
            _pause(stop, 0)
            for key, _ in selector.select(POLL_SECONDS):
                stream = accept(key.fileobj, make)  # type: ignore[arg-type]
                if stream is None:
                    continue
                if admits(stream.endpoint.host):
                    return stream
                stream.close()
                advice = f"--comm-peers can allow {stream.endpoint.host}, which tried"
    raise TransportTimeout(
        f"no other server connected to {endpoint} within {deadline.seconds:g} s; "
        f"{advice}",
        endpoint=str(endpoint),
    )


def meet_peer(
    endpoint: Endpoint,
    admits: Callable[[str], bool],
    deadline: Deadline,
    tls: SSLContext | None = None,
    stop: Event | None = None,
) -> Stream:
    """Connect to a server that may not listen yet.

    Args:
        endpoint: the address on which the server will listen.
        admits: tells whether an address may be connected to. It is called with the
            resolved addresses, and only those are dialled, so that a host name cannot
            get around it.
        deadline: for all tries and the TLS handshake together.
        tls: the context of a TLS client, or None. The certificate must be for the host
            as `endpoint` names it.
        stop: ends the tries when another thread sets it.

    Raises:
        RefusedError: the host has no address that is admitted.
        ConnectError: the host has no address, or a certificate is not trusted.
        ConnectionLost: the other server closed the connection.
        TransportTimeout: it did not listen in time.
        Cancelled: `stop` was set.
    """
    found = addresses_of(endpoint, deadline)
    addresses = [address for address in found if admits(address.host)]
    if not addresses:
        raise RefusedError(
            f"this server may not connect to {endpoint}; allow it with --comm-peers"
        )
    sock = _dialled(endpoint, addresses, deadline, stop)
    try:
        if tls is None:
            return Stream(sock, endpoint)
        stream = TlsStream(sock, endpoint, tls, server_side=False)
    except (OSError, ValueError) as error:  # the peer closed, or TLS rejects the name
        sock.close()
        reason = getattr(error, "strerror", None) or error
        raise ConnectError(
            f"no connection with {endpoint}: {reason}", endpoint=str(endpoint)
        ) from error
    return _secured(stream, deadline)


def _dialled(
    endpoint: Endpoint,
    addresses: list[Endpoint],
    deadline: Deadline,
    stop: Event | None,
) -> socket.socket:
    """A connection to the first address that accepts one."""
    reason: TransportError | None = None
    while not deadline.is_over:
        for address in addresses:
            try:
                sock = dial(address, Deadline(DIAL_SECONDS, None))
            except TransportError as error:
                reason = error
                continue
            if not _is_self_connected(sock):
                return sock
            sock.close()
        _pause(stop, POLL_SECONDS)
    raise TransportTimeout(
        f"no link within {deadline.seconds:g} s: {reason}", endpoint=str(endpoint)
    )


def _is_self_connected(sock: socket.socket) -> bool:
    """Whether a socket is connected to itself.

    This can happen on loopback if nothing listens on the port, because the system may
    choose the same port as the local one.
    """
    with suppress(OSError):  # if the peer has closed already
        return bool(sock.getsockname() == sock.getpeername())
    return False


def _secured(stream: Stream, deadline: Deadline) -> Stream:
    try:
        stream.handshake(deadline)
    except BaseException:
        stream.close()
        raise
    return stream


def _pause(stop: Event | None, seconds: float) -> None:
    """Wait, unless it is time to stop."""
    if (stop or Event()).wait(seconds):
        raise Cancelled("this server stops")
