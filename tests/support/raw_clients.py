"""Clients of every kind, valid and hostile, with one short session each."""

from __future__ import annotations

import random
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.wire import messages as m
from ggrpc.errors import GgrpcError
from tests.support.clients import HELLO, byte_vector, computes, reset

ALLOC = struct.pack("<BQIQ", 0, 12, 0, 1 << 20)
KIB = 1 << 10

RawClient = Callable[[Endpoint, random.Random], None]


def opened(endpoint: Endpoint, *sent: bytes) -> socket.socket:
    """A connection on which bytes were sent and none were received."""
    sock = socket.create_connection(endpoint, 30)
    with suppress(ConnectionError):
        for data in sent:
            sock.sendall(data)
    return sock


def computing(endpoint: Endpoint, seeded: random.Random) -> None:
    """Compute a graph and check the result."""
    with connect(endpoint, timeout=60) as client:
        assert computes(client)


def transferring(endpoint: Endpoint, seeded: random.Random) -> None:
    """Send a tensor, read it back and compare."""
    with connect(endpoint, timeout=60) as client:
        tensor = byte_vector(client, seeded.randrange(1, 512 * KIB))
        sent, back = seeded.randbytes(tensor.nbytes), bytearray(tensor.nbytes)
        client.set_tensor(tensor, sent)
        client.get_tensor(tensor, memoryview(back))
        assert back == sent
        if seeded.random() < 0.5:
            client.free(tensor.buffer)


def querying(endpoint: Endpoint, seeded: random.Random) -> None:
    """Send what `ggrpc probe` sends."""
    with connect(endpoint, timeout=60) as client:
        assert client.device_count() == 1
        assert client.memory().total


def invalid(endpoint: Endpoint, seeded: random.Random) -> None:
    """Send an invalid request, which must end the session."""
    with connect(endpoint, timeout=60) as client, suppress(GgrpcError):
        tensor = byte_vector(client, 100)
        seeded.choice(
            [
                lambda: client.free(seeded.getrandbits(64)),
                lambda: client.set_tensor(tensor, bytes(101)),
                lambda: client.memory(device=7),
                lambda: client.recompute(),
                lambda: client.clear(seeded.getrandbits(64)),
            ]
        )()
        client.memory()
        raise AssertionError("the server kept the session")


def garbage(endpoint: Endpoint, seeded: random.Random) -> None:
    """Send random bytes before or after HELLO."""
    start = [HELLO] if seeded.random() < 0.5 else []
    opened(endpoint, *start, seeded.randbytes(seeded.randrange(1, 4 * KIB))).close()


def garbled_graph(endpoint: Endpoint, seeded: random.Random) -> None:
    """Send a graph of random bytes."""
    graph = seeded.randbytes(seeded.randrange(4, 4 * KIB))
    head = struct.pack("<BQ", 10, len(graph))
    opened(endpoint, HELLO, ALLOC, head, graph).close()


def truncated(endpoint: Endpoint, seeded: random.Random) -> None:
    """Close or reset the connection in the middle of a request."""
    data = HELLO + ALLOC + struct.pack("<BQ", 10, 100_000) + bytes(50_000)
    sock = opened(endpoint, data[: seeded.randrange(1, len(data))])
    if seeded.random() < 0.5:
        sock.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while sock.recv(KIB):
                pass
        sock.close()
    else:
        reset(sock)


def deaf(endpoint: Endpoint, seeded: random.Random) -> None:
    """Request replies and read none of them."""
    with connect(endpoint, timeout=60) as client:
        tensor = byte_vector(client, 512 * KIB)
        request = m.GetTensor(tensor=tensor, offset=0, size=tensor.nbytes)
        pieces = client._connection.request(request)
        for _ in range(4):
            client._stream.send(pieces)
        reset(client._stream._socket)


def brief(endpoint: Endpoint, seeded: random.Random) -> None:
    """Close or reset the connection without a byte."""
    sock = opened(endpoint)
    (reset if seeded.random() < 0.5 else socket.socket.close)(sock)


# Without ggrpc, so that it starts fast.
_KILLED = """
import socket, struct, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(struct.pack("<BQ", 14, 24) + bytes(24))
sock.sendall(struct.pack("<BQIQ", 0, 12, 0, 1 << 20))
sock.sendall(struct.pack("<BQ", 10, 1 << 20) + bytes(1000))
print(flush=True)
sock.recv(1 << 20, socket.MSG_WAITALL)
"""


def killed(endpoint: Endpoint, seeded: random.Random) -> None:
    """Kill a client process in the middle of a request."""
    host, port = endpoint
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _KILLED, host, str(port)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)


FREQUENT: tuple[RawClient, ...] = (
    *(computing, transferring, querying, invalid),
    *(garbage, garbled_graph, truncated, deaf, brief),
)
