"""Clients of every kind, well-behaved and hostile, one short session each."""

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
from tests.engine.server.test_faults import computes
from tests.engine.server.test_limits import a_tensor

HELLO = struct.pack("<BQ", 14, 24) + bytes(24)
ALLOC = struct.pack("<BQIQ", 0, 12, 0, 1 << 20)
KIB = 1 << 10

Guest = Callable[[Endpoint, random.Random], None]


def opened(endpoint: Endpoint, *sent: bytes) -> socket.socket:
    """A connection on which something was sent, and nothing was read."""
    sock = socket.create_connection(endpoint, 30)
    with suppress(ConnectionError):
        for data in sent:
            sock.sendall(data)
    return sock


def reset(sock: socket.socket) -> None:
    """Close a connection the hard way."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def computing(endpoint: Endpoint, seeded: random.Random) -> None:
    """A graph is computed, and its result is right."""
    with connect(endpoint, timeout=60) as client:
        assert computes(client)


def transferring(endpoint: Endpoint, seeded: random.Random) -> None:
    """A tensor comes back as it was sent."""
    with connect(endpoint, timeout=60) as client:
        tensor = a_tensor(client, seeded.randrange(1, 512 * KIB))
        sent, back = seeded.randbytes(tensor.nbytes), bytearray(tensor.nbytes)
        client.set_tensor(tensor, sent)
        client.get_tensor(tensor, memoryview(back))
        assert back == sent
        if seeded.random() < 0.5:
            client.free(tensor.buffer)


def asking(endpoint: Endpoint, seeded: random.Random) -> None:
    """What probe asks."""
    with connect(endpoint, timeout=60) as client:
        assert client.device_count() == 1
        assert client.memory().total


def wrong(endpoint: Endpoint, seeded: random.Random) -> None:
    """A request that breaks a rule ends the session."""
    with connect(endpoint, timeout=60) as client, suppress(GgrpcError):
        tensor = a_tensor(client, 100)
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
        raise AssertionError("the server went on")


def garbage(endpoint: Endpoint, seeded: random.Random) -> None:
    """Bytes without a meaning, before HELLO or after it."""
    start = [HELLO] if seeded.random() < 0.5 else []
    opened(endpoint, *start, seeded.randbytes(seeded.randrange(1, 4 * KIB))).close()


def garbled_graph(endpoint: Endpoint, seeded: random.Random) -> None:
    """A graph of random bytes."""
    graph = seeded.randbytes(seeded.randrange(4, 4 * KIB))
    head = struct.pack("<BQ", 10, len(graph))
    opened(endpoint, HELLO, ALLOC, head, graph).close()


def half(endpoint: Endpoint, seeded: random.Random) -> None:
    """A request that ends in the middle, gently or not."""
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
    """Replies that nobody reads."""
    with connect(endpoint, timeout=60) as client:
        tensor = a_tensor(client, 512 * KIB)
        request = m.GetTensor(tensor=tensor, offset=0, size=tensor.nbytes)
        pieces = client._connection.request(request)
        for _ in range(4):
            client._stream.send(pieces)
        reset(client._stream._socket)


def fleeting(endpoint: Endpoint, seeded: random.Random) -> None:
    """Gone before a word is said."""
    sock = opened(endpoint)
    (reset if seeded.random() < 0.5 else socket.socket.close)(sock)


# Without the package, so that it starts fast.
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
    """A process that is killed in the middle of a request."""
    host, port = endpoint
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _KILLED, host, str(port)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)


FREQUENT: tuple[Guest, ...] = (
    *(computing, transferring, asking, wrong),
    *(garbage, garbled_graph, half, deaf, fleeting),
)
