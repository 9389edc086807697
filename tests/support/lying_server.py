"""A server that sends false replies to one command, and true ones to all others.

It forwards requests to a real server, so that a client gets as far as the false reply.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ssl import SSLContext

from ggrpc.endpoint import Endpoint
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import Dialect

DRIP_SECONDS = 0.2  # between two bytes
IO_SECONDS = 60

Lie = Callable[[socket.socket, bytes], None]  # sends a false reply for a payload


def framed(payload: bytes) -> bytes:
    """A reply with this payload."""
    return struct.pack("<Q", len(payload)) + payload


def _sized(size: int, payload: bytes) -> bytes:
    return struct.pack("<Q", size & (2**64 - 1)) + payload


def _sending(change: Callable[[bytes], bytes]) -> Lie:
    return lambda client, payload: client.sendall(change(payload))


def _values(value: int) -> Lie:
    """A reply in which each u64, u32 or byte has this value."""

    def change(payload: bytes) -> bytes:
        width = 8 if len(payload) % 8 == 0 else len(payload) if len(payload) < 8 else 1
        number = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        return framed(number * (len(payload) // max(1, width)))

    return _sending(change)


def _drip(client: socket.socket, payload: bytes) -> None:
    for byte in framed(payload + bytes(1000)):
        client.sendall(bytes([byte]))
        time.sleep(DRIP_SECONDS)


def _drip_data(client: socket.socket, payload: bytes) -> None:
    """Send a reply of the right size byte by byte."""
    for byte in framed(payload):
        client.sendall(bytes([byte]))
        time.sleep(DRIP_SECONDS)


def _endless(client: socket.socket, payload: bytes) -> None:
    while True:
        client.sendall(framed(payload) * 64)


def _never(client: socket.socket, payload: bytes) -> None:
    while client.recv(1 << 16):
        pass
    raise ConnectionResetError


def _half(client: socket.socket, payload: bytes) -> None:
    client.sendall(framed(payload)[: 4 + len(payload) // 2])
    raise ConnectionResetError


def _hang_up(client: socket.socket, payload: bytes) -> None:
    raise ConnectionResetError


# Impossible sizes: a client must notice them in the first eight bytes.
WRONG_SIZES: dict[str, Lie] = {
    "a byte too many": _sending(lambda p: _sized(len(p) + 1, p + b"\0")),
    "a byte too few": _sending(lambda p: _sized(len(p) - 1, p[:-1])),
    "nothing": _sending(lambda p: framed(b"")),
    "2^63 bytes": _sending(lambda p: _sized(1 << 63, p)),
    "2^64 - 1 bytes": _sending(lambda p: _sized(-1, p)),
    "endless": _endless,
}
# Values that are impossible for some commands, and possible for others.
WRONG_VALUES: dict[str, Lie] = {
    "0": _values(0),
    "1": _values(1),
    "2^63": _values(1 << 63),
    "2^64 - 1": _values(-1),
    "noise": _sending(lambda p: framed(os.urandom(len(p)))),
    "more afterwards": _sending(lambda p: framed(p) + b"\0"),
}
SLOW: dict[str, Lie] = {"dripping": _drip_data, "dripping on": _drip, "never": _never}
GONE: dict[str, Lie] = {"half": _half, "hang up": _hang_up}


@dataclass
class LyingServer:
    """A lying server.

    Attributes:
        endpoint: the address on which it listens.
        about: the command with false replies.
        lie: sends a false reply; None forwards the true one.
        lies: the number of false replies so far.
    """

    endpoint: Endpoint
    about: Command
    lie: Lie | None
    lies: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)


@contextlib.contextmanager
def lying(
    honest: Endpoint,
    dialect: Dialect,
    about: Command,
    lie: Lie | None,
    tls: SSLContext | None = None,
) -> Iterator[LyingServer]:
    """Run a server that sends false replies to a command.

    Args:
        honest: the server to forward to.
        dialect: the dialect of that server.
        about: the command.
        lie: sends a false reply; None to forward the true one.
        tls: the context of a TLS server; None for a plain one.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = LyingServer(Endpoint(*listener.getsockname()[:2]), about, lie)

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                arguments = (client, honest, dialect, server, tls)
                threading.Thread(target=_serve, args=arguments, daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(IO_SECONDS)
            for sock in server._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def _serve(
    client: socket.socket,
    honest: Endpoint,
    dialect: Dialect,
    server: LyingServer,
    tls: SSLContext | None,
) -> None:
    client.settimeout(IO_SECONDS)
    with contextlib.suppress(OSError, EOFError), client:
        if tls:
            client = tls.wrap_socket(client, server_side=True)
        server._sockets.append(client)
        with client, socket.create_connection(honest, IO_SECONDS) as truth:
            for sock in client, truth:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                _answer(client, truth, dialect, server)


def _answer(
    client: socket.socket, truth: socket.socket, dialect: Dialect, server: LyingServer
) -> None:
    """Forward a request, and the reply if there is one."""
    head = _exactly(client, 9)
    number, size = struct.unpack("<BQ", head)
    truth.sendall(head)
    while size:
        data = client.recv(min(size, 1 << 20))
        if not data:
            raise EOFError
        truth.sendall(data)
        size -= len(data)
    command = dialect.command(number)
    if command is None or dialect.replies[command] is None:
        return
    (size,) = struct.unpack("<Q", _exactly(truth, 8))
    payload = _exactly(truth, size)
    if command is server.about and server.lie:
        server.lies += 1
        server.lie(client, payload)
    else:
        client.sendall(framed(payload))


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
