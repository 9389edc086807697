"""Actions of clients and connections, for tests of a live server."""

from __future__ import annotations

import socket
import struct

import numpy as np

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

HELLO = struct.pack("<BQ", 14, 24) + bytes(24)  # of protocol 4.0.0 and later
WELCOME_BYTES = 8 + 28  # of its reply


def vector(client: Client, count: int) -> Tensor:
    """A float32 vector in a buffer of its own."""
    buffer, ne = client.allocate(4 * count), (count, 1, 1, 1)
    nb = contiguous_nb(GGMLType.F32, ne)
    return Tensor(1, GGMLType.F32, buffer, ne, nb, data=client.base(buffer))


def byte_vector(client: Client, size: int) -> Tensor:
    """An I8 vector of `size` bytes in a buffer of its own."""
    buffer, ne = client.allocate(size), (size, 1, 1, 1)
    nb = contiguous_nb(GGMLType.I8, ne)
    return Tensor(1, GGMLType.I8, buffer, ne, nb, data=client.base(buffer))


def squares(client: Client) -> tuple[Tensor, Graph]:
    """The result of squaring 0 to 7, and its graph; the input is set."""
    x, y = vector(client, 8), vector(client, 8)
    y = y._replace(id=2, op=Op.SQR, src=(1,) + (0,) * 9)
    client.set_tensor(x, np.arange(8, dtype=np.float32).tobytes())
    return y, Graph.of([x, y], [2])


def computes(client: Client) -> bool:
    """Whether the server computes a graph correctly for a client."""
    y, graph = squares(client)
    client.compute(graph)
    values = np.empty(8, np.float32)
    client.get_tensor(y, memoryview(values).cast("B"))
    return values.tolist() == [n * n for n in range(8)]


def serves(endpoint: Endpoint) -> bool:
    """Whether the server computes a graph correctly for a new client."""
    with connect(endpoint, timeout=20) as client:
        return computes(client)


def hello(endpoint: Endpoint) -> socket.socket:
    """A connection that has sent HELLO and received the reply."""
    sock = socket.create_connection(endpoint, 20)
    sock.sendall(HELLO)
    assert len(sock.recv(WELCOME_BYTES, socket.MSG_WAITALL)) == WELCOME_BYTES
    return sock


def closed_within(sock: socket.socket, seconds: float) -> bool:
    """Whether the server closes a connection in time, without another byte."""
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def closed_while_dripping(sock: socket.socket, data: bytes) -> bool:
    """Whether the server closes a connection that sends ten bytes per second."""
    for byte in data:
        try:
            sock.sendall(bytes([byte]))
        except OSError:
            return True
        if closed_within(sock, 0.1):
            return True
    return False


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
