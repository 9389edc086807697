"""Clients of forks, without code of ggrpc.

The layouts are those of each fork's `struct rpc_tensor`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from ggrpc.endpoint import Endpoint

F32 = 0
COUNT = 8  # elements of every tensor
DATA = bytes(4 * COUNT)
TIMEOUT = 20  # seconds
MAX_TRIES = 10


class ForkClient(NamedTuple):
    """The protocol of a fork's client.

    Attributes:
        fork: the name of the fork.
        size: the size of a tensor in bytes.
        accepts: its major and minor version.
        hello: the size of its HELLO.
        sources: the number of sources of a tensor.
        name: the size of a tensor's name in bytes.
        wide: whether ne and nb have 64 bits.
        sends_sources: whether GET_ALLOC_SIZE carries the sources.
    """

    fork: str
    size: int
    accepts: tuple[int, int]
    hello: int = 0
    sources: int = 10
    name: int = 64
    wide: bool = False
    sends_sources: bool = False

    def tensor(self, buffer: int, id: int = 1) -> bytes:
        """A vector of COUNT elements at the start of a buffer."""
        ne, nb = (COUNT, 1, 1, 1), (4, 4 * COUNT, 4 * COUNT, 4 * COUNT)
        packed = struct.pack("<QIQ", id, F32, buffer)
        packed += struct.pack("<8Q" if self.wide else "<8I", *ne, *nb)
        packed += struct.pack("<I16ii", 0, *(0,) * 16, 0)
        packed += bytes(8 * self.sources)
        packed += struct.pack("<QQQ", 0, 0, buffer)
        packed += b"blk.0.attn_norm.weight".ljust(self.name + 4, b"\0")
        assert len(packed) == self.size
        return packed

    def greet(self, endpoint: Endpoint) -> socket.socket:
        """Connect until the server offers a version that the client accepts."""
        for _ in range(MAX_TRIES):
            sock = socket.create_connection(endpoint, TIMEOUT)
            sock.sendall(_request(14, bytes(self.hello)))
            major, minor, *_ = _reply(sock)
            if major == self.accepts[0] and minor <= self.accepts[1]:
                return sock
            sock.close()
        raise AssertionError("the server offers no version for this client")


CLIENTS = [
    ForkClient("ik_llama.cpp", 312, (3, 5), sources=12),
    ForkClient("ik_llama.cpp", 344, (3, 5), sources=16),
    ForkClient("ik_llama.cpp", 376, (3, 5), sources=16, wide=True),
    ForkClient(
        "stable-diffusion.cpp", 360, (5, 0), hello=24, name=128, sends_sources=True
    ),
    ForkClient(
        "stable-diffusion.cpp", 392, (5, 0), hello=24, name=160, sends_sources=True
    ),
]


def allocate(sock: socket.socket) -> int:
    """Allocate a buffer, after the queries that a client sends before."""
    for query in (1, 2, 11):
        sock.sendall(_request(query, bytes(4)))
        _reply(sock)
    sock.sendall(_request(0, struct.pack("<IQ", 0, 1 << 20)))
    (handle, _) = struct.unpack("<QQ", _reply(sock))
    sock.sendall(_request(3, struct.pack("<Q", handle)))
    assert _reply(sock) == struct.pack("<Q", handle)
    return int(handle)


def set_tensor(client: ForkClient, buffer: int) -> bytes:
    """SET_TENSOR of a whole tensor."""
    return _request(6, client.tensor(buffer) + struct.pack("<Q", 0) + DATA)


def set_tensor_hash(client: ForkClient, buffer: int) -> bytes:
    """SET_TENSOR_HASH."""
    return _request(7, client.tensor(buffer) + struct.pack("<QQ", 0, 7))


def get_tensor(client: ForkClient, buffer: int) -> bytes:
    """GET_TENSOR of a whole tensor."""
    return _request(8, client.tensor(buffer) + struct.pack("<QQ", 0, len(DATA)))


def copy_tensor(client: ForkClient, buffer: int) -> bytes:
    """COPY_TENSOR."""
    return _request(9, client.tensor(buffer) + client.tensor(buffer, id=2))


def graph_compute(client: ForkClient, buffer: int) -> bytes:
    """GRAPH_COMPUTE of one node of three tensors."""
    tensors = b"".join(client.tensor(buffer, id) for id in (1, 2, 3))
    return _request(10, struct.pack("<IIQI", 0, 1, 3, 3) + tensors)


def init_tensor(client: ForkClient, buffer: int) -> bytes:
    """INIT_TENSOR."""
    return _request(12, client.tensor(buffer))


def get_alloc_size(client: ForkClient, buffer: int) -> bytes:
    """GET_ALLOC_SIZE, with the sources if the fork sends them."""
    tensors = client.tensor(buffer) * (11 if client.sends_sources else 1)
    return _request(13, bytes(4) + tensors)


REQUESTS: tuple[Callable[[ForkClient, int], bytes], ...] = (
    *(set_tensor, set_tensor_hash, get_tensor, copy_tensor),
    *(graph_compute, init_tensor, get_alloc_size),
)


def _request(command: int, payload: bytes) -> bytes:
    return struct.pack("<BQ", command, len(payload)) + payload


def _reply(sock: socket.socket) -> bytes:
    (size,) = struct.unpack("<Q", sock.recv(8, socket.MSG_WAITALL))
    return sock.recv(size, socket.MSG_WAITALL)
