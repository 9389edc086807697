"""TCP: the only file that touches sockets.

What the operating system reports becomes an error of ours, which names the endpoint.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import NEVER, Deadline
from ggrpc.errors import (
    BindError,
    ConnectError,
    ConnectionLost,
    TransportError,
    TransportTimeout,
)

# One call moves at most this much: some systems refuse more, or cut it at 2 GiB.
MAX_AT_ONCE = 1 << 30
BACKLOG = 4096  # a burst of clients waits, instead of trying again after a second
SPIN_SECONDS = 50e-6  # seconds; about what two processors take to wake each other

# A machine that lost its power sends nothing more, not even a reset: its connection is
# given up when that many questions, so many seconds apart, went without an answer.
KEEPALIVE = {"TCP_KEEPIDLE": 120, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 6}
# `struct timeval`: seconds and microseconds.
_TIMEVAL = struct.Struct("@ll")

NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Pieces = Sequence[bytes | bytearray | memoryview]  # of single bytes
T = TypeVar("T")


class Stream:
    """One connection. Threads may not share it, but any may `shut` it."""

    def __init__(self, sock: socket.socket, endpoint: Endpoint) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._timeout = sock.gettimeout()
        self._call_timeout: float | None = None  # seconds for a call without a deadline
        self.endpoint = endpoint
        self.was_shut = False

    @classmethod
    def connect(cls, endpoint: Endpoint, deadline: Deadline = NEVER) -> Stream:
        """Connect to a server.

        Raises:
            ConnectError: nobody answers there.
            TransportTimeout: not in time.
        """
        return cls(dial(endpoint, deadline), endpoint)

    def handshake(self, deadline: Deadline = NEVER) -> None:
        """Do what has to be done before the first byte: nothing.

        Raises:
            ConnectionLost: it cannot be done with this peer.
            TransportTimeout: not in time.
        """

    def receive(self, view: memoryview, deadline: Deadline = NEVER) -> int:
        """Receive what is there into `view`, waiting for at least one byte.

        Returns:
            How many bytes; 0 when the peer has closed.

        Raises:
            ConnectionLost: the connection was reset.
            TransportTimeout: nothing came in time.
        """
        if len(view) > MAX_AT_ONCE:
            view = view[:MAX_AT_ONCE]
        return self._call(self._socket.recv_into, view, deadline)

    def give_up_after(self, seconds: float) -> None:
        """Let the system end a call that moves nothing for so long.

        That costs nothing at each call, unlike a deadline.
        """
        timeout = _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))
        for option in socket.SO_RCVTIMEO, socket.SO_SNDTIMEO:
            self._socket.setsockopt(socket.SOL_SOCKET, option, timeout)

    def receive_soon(self, view: memoryview, deadline: Deadline = NEVER) -> int:
        """Receive, and stay awake for a moment before sleeping over it.

        To be woken takes a thread longer than a client to ask its next question.
        """
        end = time.perf_counter() + SPIN_SECONDS
        while time.perf_counter() < end:
            try:
                return self._socket.recv_into(view, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                break  # to be told of below
        return self.receive(view, deadline)

    def receive_exactly(self, view: memoryview, deadline: Deadline = NEVER) -> None:
        """Fill `view`.

        Raises:
            ConnectionLost: the peer closed before it was full.
            TransportTimeout: it was not full in time.
        """
        while len(view):
            count = self.receive(view, deadline)
            if not count:
                raise ConnectionLost(
                    f"{self.endpoint} closed the connection in the middle of a message",
                    endpoint=str(self.endpoint),
                )
            view = view[count:]

    def send(self, pieces: Pieces, deadline: Deadline = NEVER) -> None:
        """Send all pieces, one after the other, without joining them.

        Raises:
            ConnectionLost: the peer is gone.
            TransportTimeout: it did not take them in time.
        """
        while pieces:
            batch = _at_once(pieces)
            pieces = _after(pieces, self._call(self._socket.sendmsg, batch, deadline))

    def shut(self) -> None:
        """End the connection from any thread; a receive that waits returns 0."""
        self.was_shut = True
        try:
            # Not by the method: TLS would drop its state under the thread that reads.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        except OSError:
            pass  # the peer was faster

    def end_input(self) -> None:
        """Let the receiving side end once it has read what is here already."""
        self.was_shut = True
        try:
            socket.socket.shutdown(self._socket, socket.SHUT_RD)
        except OSError:
            pass  # the peer was faster

    def hand_over(self) -> socket.socket:
        """The socket, which does not block any more, for somebody who waits himself."""
        self._socket.setblocking(False)
        return self._socket

    def close(self) -> None:
        """Close the socket; by the thread that uses it."""
        self._socket.close()

    def _call(self, call: Callable[[T], int], argument: T, deadline: Deadline) -> int:
        try:
            left = deadline.left() or self._call_timeout
            if left != self._timeout:  # each change is a call of the system
                self._socket.settimeout(left)
                self._timeout = left
            count = call(argument)
        except (TimeoutError, BlockingIOError, TransportTimeout):
            raise _timed_out(self.endpoint, deadline, "waiting for") from None
        except OSError as error:
            raise ConnectionLost(
                f"the connection with {self.endpoint} broke: {error.strerror or error}",
                endpoint=str(self.endpoint),
            ) from error
        deadline.moved(count)
        return count


def dial(endpoint: Endpoint, deadline: Deadline = NEVER) -> socket.socket:
    """A socket that is connected to a server.

    Raises:
        ConnectError: nobody answers there.
        TransportTimeout: not in time.
    """
    try:
        sock = socket.create_connection(endpoint, deadline.left())
        keep_alive(sock)
    except TimeoutError:
        raise _timed_out(endpoint, deadline, "connecting to") from None
    except OSError as error:
        raise ConnectError(
            f"cannot connect to {endpoint}: {error.strerror or error}; "
            "is the server running there, and the port right?",
            endpoint=str(endpoint),
        ) from error
    return sock


def _at_once(pieces: Pieces) -> Pieces:
    """As much from the front of `pieces` as one call may move."""
    room = MAX_AT_ONCE
    for at, piece in enumerate(pieces):
        if len(piece) > room:
            return [*pieces[:at], memoryview(piece)[:room]]
        room -= len(piece)
    return pieces


def _after(pieces: Pieces, count: int) -> Pieces:
    """What is left of `pieces` when their first `count` bytes are gone."""
    for at, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[at + 1 :]]
        count -= len(piece)
    return []


def _timed_out(endpoint: Endpoint, deadline: Deadline, doing: str) -> TransportTimeout:
    what = f"{doing} {endpoint} took "
    if deadline.seconds is None:
        what += "too long"  # for the system: see give_up_after
    else:
        what += f"longer than {deadline.seconds:g} s"
        what += f"; give it more with {deadline.flag}"
    return TransportTimeout(what, endpoint=str(endpoint))


def listen(endpoint: Endpoint) -> list[socket.socket]:
    """Listen on every address that a host name stands for, and this machine has.

    Port 0 takes a free one, the same for all addresses.

    Raises:
        BindError: a port is taken, or no address can be had; then none is kept.
    """
    sockets: list[socket.socket] = []
    try:
        _bind_all(endpoint, sockets)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise BindError(
            f"cannot listen on {endpoint}: {error.strerror or error}; "
            "choose another address with --host or another port with --port",
            endpoint=str(endpoint),
        ) from error
    return sockets


def _bind_all(endpoint: Endpoint, sockets: list[socket.socket]) -> None:
    port, absent = endpoint.port, None
    for family, address in _addresses(endpoint):
        try:
            sockets.append(_listener(family, (address[0], port, *address[2:])))
        except OSError as error:
            if error.errno not in NOT_HERE:
                raise
            absent = error  # localhost is ::1 as well, but not in every container
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


def keep_alive(sock: socket.socket) -> None:
    """Let the system notice, after some minutes of silence, that the peer is gone."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        if hasattr(socket, option):  # macOS has another name for one of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def accept(
    listener: socket.socket, make: Callable[[socket.socket, Endpoint], Stream] = Stream
) -> Stream | None:
    """Take a waiting connection; None when it is gone already.

    Args:
        listener: where it waits.
        make: makes the stream.

    Raises:
        TransportError: the system has no resources left for it.
    """
    try:
        sock, address = listener.accept()
    except (BlockingIOError, ConnectionError):
        return None
    except OSError as error:
        raise TransportError(f"cannot accept: {error.strerror or error}") from error
    try:
        sock.setblocking(True)
        keep_alive(sock)
        return make(sock, Endpoint(*address[:2]))
    except OSError:  # gone meanwhile
        sock.close()
        return None
