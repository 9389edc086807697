"""TCP streams and listening sockets, without TLS (see `tls.py`).

Errors of the operating system become errors of ggrpc that name the endpoint.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import NEVER, Deadline, TimeLimit
from ggrpc.engine.net.resolve import addresses_of
from ggrpc.errors import (
    BindError,
    ConnectError,
    ConnectionLost,
    TransportError,
    TransportTimeout,
)

# The most bytes that one call moves. Some systems reject more, or stop at 2 GiB.
MAX_AT_ONCE = 1 << 30
IOV_MAX = 1024  # views in one call
BACKLOG = 4096  # a full backlog makes clients retry after a second
SPIN_SECONDS = 50e-6  # about as long as one processor takes to wake another

# A machine that lost power sends nothing more, not even a reset. TCP probes an idle
# connection after KEEPIDLE seconds, every KEEPINTVL seconds, and closes it when KEEPCNT
# probes got no answer.
KEEPALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 6}
# `struct timeval`: seconds and microseconds.
_TIMEVAL = struct.Struct("@ll")
# `struct linger`: whether to linger, and seconds. 1 and 0 turn a close into a reset.
_LINGER = struct.Struct("@ii")

_ABSENT_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Pieces = Sequence[bytes | bytearray | memoryview]  # memoryviews of single bytes
T = TypeVar("T")


class Stream:
    """A TCP connection.

    One thread at a time may use it, but any thread may call `shut` and `end_input`.

    Args:
        sock: a connected socket; the stream owns it.
        endpoint: the peer's address.

    Attributes:
        endpoint: the peer's address.
        was_shut: whether this side has called `shut`, `interrupt` or `end_input`.
    """

    def __init__(self, sock: socket.socket, endpoint: Endpoint) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._timeout = sock.gettimeout()
        self._call_timeout: float | None = None  # seconds, if a limit gives no timeout
        self._sends = False  # whether a call of `send` is in progress
        self.endpoint = endpoint
        self.was_shut = False

    @classmethod
    def connect(cls, endpoint: Endpoint, deadline: Deadline = NEVER) -> Stream:
        """Connect to a server.

        Raises:
            ConnectError: no server answers at the address.
            TransportTimeout: the deadline passed.
        """
        return cls(dial(endpoint, deadline), endpoint)

    def handshake(self, limit: TimeLimit = NEVER) -> None:
        """Prepare the connection for its first byte; TCP needs nothing.

        Raises:
            ConnectionLost: the handshake failed.
            TransportTimeout: the limit was exceeded.
        """

    def receive(self, view: memoryview, limit: TimeLimit = NEVER) -> int:
        """Receive available bytes into `view`; block until there is at least one.

        Returns:
            The number of bytes, 0 if the peer has closed.

        Raises:
            ConnectionLost: the connection was reset.
            TransportTimeout: the limit was exceeded.
        """
        if len(view) > MAX_AT_ONCE:
            view = view[:MAX_AT_ONCE]
        return self._call(self._socket.recv_into, view, limit)

    def set_call_timeout(self, seconds: float) -> None:
        """Limit each call that has no timeout of its own.

        The system enforces it, so that it costs no system call per call.
        """
        timeout = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))
        for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
            self._socket.setsockopt(socket.SOL_SOCKET, option, timeout)

    def fileno(self) -> int:
        """The descriptor of the socket, for a selector."""
        return self._socket.fileno()

    @property
    def has_handshake(self) -> bool:
        """Whether `handshake` exchanges bytes with the peer."""
        return False

    def receive_now(self, view: memoryview) -> int | None:
        """Receive available bytes into `view`, without blocking.

        Returns:
            The number of bytes, 0 if the peer has closed, None if there are none yet.

        Raises:
            ConnectionLost: the connection was reset.
        """
        try:
            return self._socket.recv_into(view, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._broken(error) from error

    @property
    def has_input(self) -> bool:
        """Whether there are bytes to receive already."""
        self._set_timeout(None)  # with one, Python would wait for a byte
        with suppress(OSError):  # `receive` reports it
            return bool(self._socket.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK))
        return False

    def receive_spinning(self, view: memoryview, limit: TimeLimit = NEVER) -> int:
        """Receive like `receive`, but poll for SPIN_SECONDS before blocking.

        Waking a blocked thread takes longer than a client takes for its next request.
        """
        end = time.perf_counter() + SPIN_SECONDS
        while time.perf_counter() < end:
            try:
                return self._socket.recv_into(view, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                os.sched_yield()
            except OSError:
                break  # `receive` reports it
        return self.receive(view, limit)

    def receive_exactly(self, view: memoryview, limit: TimeLimit = NEVER) -> None:
        """Fill `view`.

        Raises:
            ConnectionLost: the peer closed before the view was full.
            TransportTimeout: the limit was exceeded.
        """
        while len(view):
            count = self.receive(view, limit)
            if not count:
                raise self._cut_short()
            view = view[count:]

    def receive_pieces(
        self, views: Sequence[memoryview], limit: TimeLimit = NEVER
    ) -> None:
        """Fill one view after the other, up to IOV_MAX of them with one system call.

        Raises:
            ConnectionLost: the peer closed before they were full.
            TransportTimeout: the limit was exceeded.
        """
        left: Pieces = views
        while left:
            count = self._call(self._receive_into, left[:IOV_MAX], limit)
            if not count:
                raise self._cut_short()
            left = _after(left, count)

    def _receive_into(self, views: Pieces) -> int:
        return self._socket.recvmsg_into(views)[0]

    def send(self, pieces: Pieces, limit: TimeLimit = NEVER) -> None:
        """Send all pieces in order, without joining them.

        Raises:
            ConnectionLost: the peer has closed.
            TransportTimeout: the limit was exceeded.
        """
        self._sends = True
        while pieces:
            batch = _at_once(pieces)
            pieces = _after(pieces, self._call(self._socket.sendmsg, batch, limit))
        self._sends = False

    def _cut_short(self) -> ConnectionLost:
        return ConnectionLost(
            f"{self.endpoint} closed the connection in the middle of a message",
            endpoint=str(self.endpoint),
        )

    def shut(self) -> None:
        """End the connection from any thread; a blocked `receive` returns 0."""
        self.was_shut = True
        self._shutdown(socket.SHUT_RDWR)

    def interrupt(self) -> None:
        """Make a blocked call return, from any thread, so that its thread can `reset`.

        Unless a `send` is blocked, the peer is not told that the stream is closed: a
        llama.cpp server that answers to a closed stream dies.
        """
        self.was_shut = True
        self._shutdown(socket.SHUT_RDWR if self._sends else socket.SHUT_RD)

    def end_input(self) -> None:
        """Make `receive` return 0 after the bytes that have already arrived."""
        self.was_shut = True
        self._shutdown(socket.SHUT_RD)

    def nonblocking_socket(self) -> socket.socket:
        """The socket, set to non-blocking, for a caller that polls it."""
        self._socket.setblocking(False)
        return self._socket

    def close(self) -> None:
        """Close the socket. Call this only from the thread that uses the stream."""
        self._close(_LINGER.pack(0, 0))

    def reset(self) -> None:
        """Close the socket with a reset, for use while the peer may still answer.

        llama.cpp's server dies of SIGPIPE if it answers to a socket that was closed
        without a reset. Call this only from the thread that uses the stream.
        """
        self._close(_LINGER.pack(1, 0))

    def _close(self, linger: bytes) -> None:
        with suppress(OSError):  # if it is closed already
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def _shutdown(self, how: int) -> None:
        with suppress(OSError):  # if the peer has closed already
            # SSLSocket.shutdown would drop TLS state that another thread is using.
            socket.socket.shutdown(self._socket, how)

    def _set_timeout(self, timeout: float | None) -> None:
        if timeout != self._timeout:  # each change costs a system call
            self._socket.settimeout(timeout)
            self._timeout = timeout

    def _call(self, call: Callable[[T], int], argument: T, limit: TimeLimit) -> int:
        try:
            self._set_timeout(limit.timeout() or self._call_timeout)
            count = call(argument)
        except (TimeoutError, BlockingIOError, TransportTimeout):
            raise _timed_out(self.endpoint, limit) from None
        except OSError as error:
            raise self._broken(error) from error
        limit.moved(count)
        return count

    def _broken(self, error: OSError) -> TransportError:
        return ConnectionLost(
            f"the connection with {self.endpoint} broke: {error.strerror or error}",
            endpoint=str(self.endpoint),
        )

    @property
    def subject(self) -> str:
        """The subject of the peer's certificate; '' if it has none."""
        return ""


def dial(endpoint: Endpoint, deadline: Deadline = NEVER) -> socket.socket:
    """Connect a socket to a server. It is reset if the process ends without closing it.

    If the host name has several addresses, they share the time.

    Raises:
        ConnectError: no server answers at the address.
        TransportTimeout: the deadline passed.
    """
    addresses = addresses_of(endpoint, deadline)
    while True:
        address, *addresses = addresses
        try:
            return _dialled(address, deadline, 1 + len(addresses))
        except (TimeoutError, TransportTimeout) as error:
            if not addresses:
                raise _no_connection(endpoint, deadline) from error
        except OSError as error:
            if not addresses:
                raise ConnectError(
                    f"cannot connect to {endpoint}: {error.strerror or error}; "
                    "is the server running there, and the port right?",
                    endpoint=str(endpoint),
                ) from error


def _dialled(address: Endpoint, deadline: Deadline, shares: int) -> socket.socket:
    left = deadline.timeout()
    sock = socket.create_connection(address, left and left / shares)
    try:
        _keep_alive(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER.pack(1, 0))
    except OSError:  # the server has closed already
        sock.close()
        raise
    return sock


def _no_connection(endpoint: Endpoint, deadline: Deadline) -> TransportTimeout:
    return TransportTimeout(
        f"cannot connect to {endpoint} within {deadline.seconds:g} s: the "
        "machine is off, a firewall drops the packets, or too many clients wait for "
        "the server",
        endpoint=str(endpoint),
    )


def _at_once(pieces: Pieces) -> Pieces:
    """The front of `pieces`, as much as one call may move."""
    room = MAX_AT_ONCE
    for at, piece in enumerate(pieces):
        if len(piece) > room:
            return [*pieces[:at], memoryview(piece)[:room]]
        room -= len(piece)
    return pieces


def _after(pieces: Pieces, count: int) -> Pieces:
    """The rest of `pieces` after their first `count` bytes."""
    for at, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[at + 1 :]]
        count -= len(piece)
    return []


def _timed_out(endpoint: Endpoint, limit: TimeLimit) -> TransportTimeout:
    message = f"waiting for {endpoint} took {limit.describe()}"
    return TransportTimeout(message, endpoint=str(endpoint))


def listen(
    endpoint: Endpoint,
    advice: str = "choose another address with --host or another port with --port",
) -> list[socket.socket]:
    """Listen on every address of a host name that this machine has.

    Args:
        endpoint: the host and the port; port 0 picks a free one, the same for all
            addresses.
        advice: what to do if the address is not available, for the error.

    Raises:
        BindError: a port is in use, or no address is available; no socket stays open.
    """
    sockets: list[socket.socket] = []
    try:
        _bind_all(endpoint, sockets)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise BindError(
            f"cannot listen on {endpoint}: {error.strerror or error}; {advice}",
            endpoint=str(endpoint),
        ) from error
    return sockets


def _bind_all(endpoint: Endpoint, sockets: list[socket.socket]) -> None:
    port, absent = endpoint.port, None
    for family, address in _addresses(endpoint):
        try:
            sockets.append(_listener(family, (address[0], port, *address[2:])))
        except OSError as error:
            if error.errno not in _ABSENT_ADDRESS:
                raise
            absent = error  # localhost includes ::1, which some containers lack
        else:
            port = sockets[0].getsockname()[1]
    if absent and not sockets:
        raise absent


def _addresses(endpoint: Endpoint) -> list[tuple[int, tuple[object, ...]]]:
    found = socket.getaddrinfo(
        *endpoint, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listener(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def endpoint_of(sock: socket.socket) -> Endpoint:
    """The address that a socket is bound to."""
    return Endpoint(*sock.getsockname()[:2])


def _keep_alive(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):  # macOS names one of them differently
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def accept(
    listener: socket.socket, make: Callable[[socket.socket, Endpoint], Stream] = Stream
) -> Stream | None:
    """Accept a waiting connection; return None if the client has already closed it.

    Args:
        listener: a listening, non-blocking socket.
        make: makes the stream from the socket and the peer's address.

    Raises:
        TransportError: the system lacks resources for another connection.
    """
    try:
        sock, address = listener.accept()
    except (BlockingIOError, ConnectionError):
        return None
    except OSError as error:
        raise TransportError(f"cannot accept: {error.strerror or error}") from error
    try:
        sock.setblocking(True)
        _keep_alive(sock)
        return make(sock, Endpoint(*address[:2]))
    except OSError:  # the client has closed meanwhile
        sock.close()
        return None
