"""Servers of versions newer than ggrpc, and of forks, without code of ggrpc."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ggrpc.engine.wire.dialects import NEWEST

GIB = 1 << 30
HELLO, DEVICE_COUNT, ALIGNMENT, MAX_SIZE, MEMORY = 14, 15, 1, 2, 11
TIMEOUT = 20  # seconds


class Foreign(NamedTuple):
    """The behaviour of a server.

    Attributes:
        name: the name that ggrpc should show.
        welcome: its reply to HELLO.
        hello: the size of HELLO that it accepts.
        has_devices: whether it has DEVICE_COUNT, and its queries have a device number.
    """

    name: str
    welcome: bytes
    hello: int = 24
    has_devices: bool = True

    @property
    def version(self) -> str:
        return ".".join(map(str, self.welcome[:3]))


def _new(*version: int) -> bytes:
    """A reply to HELLO with the layout of 4.0.0 and later."""
    return bytes(version).ljust(28, b"\0")


MAJOR, MINOR, _ = NEWEST.version
NEWER = [
    Foreign("newer than this ggrpc", _new(MAJOR, MINOR + 1, 0)),
    Foreign("newer than this ggrpc", _new(MAJOR + 1, 0, 0)),
    Foreign("newer than this ggrpc", _new(99, 255, 255)),
]
FORKS = [
    Foreign("ik_llama.cpp", bytes([3, 5, 1]), hello=0),
    Foreign("ik_llama.cpp", bytes([3, 5, 2]), hello=0),
    Foreign("stable-diffusion.cpp", _new(5, 0, 1)),
    Foreign("llama-box", bytes([2, 0, 0, 0]), hello=0, has_devices=False),
    Foreign("llama-box", bytes([2, 0, 0, 1]), hello=0, has_devices=False),
    Foreign("qvac-fabric", _new(107, 0, 0)),
    Foreign("qvac-fabric", _new(108, 0, 0)),
    Foreign("llama-halo-hybrid", _new(7, 4, 0, 102)),
    Foreign("llama-halo-hybrid", _new(7, 5, 0, 103)),
    Foreign("llama-halo-hybrid", _new(7, 6, 0, 103)),
]


@dataclass
class Visits:
    """The requests that a server received.

    Attributes:
        endpoint: the server.
        commands: the commands of all clients.
        wrong: command and size of requests that it does not have. It ends the
            connection then, as a real server does.
    """

    endpoint: str
    commands: list[int] = field(default_factory=list)
    wrong: list[tuple[int, int]] = field(default_factory=list)


@contextlib.contextmanager
def foreign_server(kind: Foreign) -> Iterator[Visits]:
    """Run a server for one client at a time, as llama.cpp's and ik_llama.cpp's are."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        visits = Visits("{}:{}".format(*listener.getsockname()))
        thread = threading.Thread(target=_serve, args=(listener, kind, visits))
        thread.start()
        try:
            yield visits
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def _serve(listener: socket.socket, kind: Foreign, visits: Visits) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        client.settimeout(TIMEOUT)
        with client, contextlib.suppress(ConnectionError, EOFError):
            _converse(client, kind, visits)


def _converse(client: socket.socket, kind: Foreign, visits: Visits) -> None:
    device = 4 * kind.has_devices
    answers = {
        ALIGNMENT: (device, struct.pack("<Q", 128)),
        MAX_SIZE: (device, struct.pack("<Q", 8 * GIB)),
        MEMORY: (device, struct.pack("<QQ", 3 * GIB, 4 * GIB)),
    }
    if kind.has_devices:
        answers[DEVICE_COUNT] = (0, struct.pack("<I", 2))
    greeted = False
    while True:
        command, size = struct.unpack("<BQ", _exactly(client, 9))
        visits.commands.append(command)
        expected, answer = answers.get(command, (None, b""))
        if not greeted:
            expected = kind.hello if command == HELLO else None
            answer = kind.welcome
        if size != expected:
            if greeted:
                visits.wrong.append((command, size))
            return
        greeted = True
        _exactly(client, size)
        client.sendall(struct.pack("<Q", len(answer)) + answer)


def _exactly(client: socket.socket, size: int) -> bytes:
    data = client.recv(size, socket.MSG_WAITALL) if size else b""
    if len(data) < size:
        raise EOFError
    return data
