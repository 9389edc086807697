"""Two servers find each other: one waits for a connection, the other one makes it."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from ssl import SSLContext

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.tls import TlsStream, server_streams
from ggrpc.engine.net.transport import Stream, accept, dial, listen
from ggrpc.errors import ConnectError, RefusedError

RETRY_SECONDS = 0.05


def await_peer(
    endpoint: Endpoint,
    admits: Callable[[str], bool],
    deadline: Deadline,
    tls: SSLContext | None = None,
) -> Stream:
    """Listen for one connection; the port is closed again as soon as it is there.

    Args:
        endpoint: where to listen.
        admits: whether an address may connect; others are turned away.
        deadline: of the wait, and of the TLS handshake.
        tls: the context of a TLS server, or None.

    Raises:
        BindError: the address cannot be had.
        TransportTimeout: nothing connected in time.
        ConnectionLost: the TLS handshake failed.
    """
    listeners = listen(endpoint)
    try:
        stream = _first_admitted(listeners, admits, deadline, tls)
    finally:
        for listener in listeners:
            listener.close()
    try:
        stream.handshake(deadline)
    except BaseException:
        stream.close()
        raise
    return stream


def _first_admitted(
    listeners: list[socket.socket],
    admits: Callable[[str], bool],
    deadline: Deadline,
    tls: SSLContext | None,
) -> Stream:
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(deadline.timeout()):
                stream = accept(key.fileobj, server_streams(tls))  # type: ignore[arg-type]
                if stream is None:
                    continue
                if admits(stream.endpoint.host):
                    return stream
                stream.close()


def meet_peer(
    endpoint: Endpoint,
    admits: Callable[[str], bool],
    deadline: Deadline,
    tls: SSLContext | None = None,
) -> Stream:
    """Connect to a server that may not listen yet.

    Args:
        endpoint: where it will listen.
        admits: whether an address may be connected to; it is asked for the very address
            that is then used, whatever the host's name stands for.
        deadline: of all tries.
        tls: the context of a TLS client, or None. The certificate must be for the host
            as `endpoint` names it.

    Raises:
        RefusedError: the host has no address that is admitted.
        ConnectError: the host has no address, or the TLS handshake failed.
        TransportTimeout: it did not listen in time.
    """
    address = _admitted_address(endpoint, admits)
    while True:
        try:
            sock = dial(address, deadline)
            break
        except ConnectError:
            time.sleep(min(RETRY_SECONDS, deadline.timeout() or RETRY_SECONDS))
    if tls is None:
        return Stream(sock, endpoint)
    stream = TlsStream(sock, endpoint, tls, server_side=False)
    try:
        stream.handshake(deadline)
    except BaseException:
        stream.close()
        raise
    return stream


def _admitted_address(endpoint: Endpoint, admits: Callable[[str], bool]) -> Endpoint:
    """An address of the host that is admitted, with the port."""
    try:
        found = socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConnectError(
            f"cannot find {endpoint}: {error.strerror or error}", endpoint=str(endpoint)
        ) from None
    for *_, address in found:
        if admits(str(address[0])):
            return Endpoint(str(address[0]), endpoint.port)
    raise RefusedError(f"{endpoint} is not an address that this server may connect to")
