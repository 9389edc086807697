"""A client that sends invalid bytes, and the checks that must pass afterwards."""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from random import randrange
from typing import Any

import numpy as np

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.tensors import RPC_TENSOR
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.clients import HELLO
from tests.support.oracle import run_case_on

SERVED_SECONDS = 5.0  # a new client must be served within this time
REPLY_SECONDS = 60.0  # how long to wait for a reply on a busy machine
SIZE = 1 << 16  # bytes of the attacker's buffer

Record = Any  # one rpc_tensor


class ClosedError(Exception):
    """The server has closed the connection."""


class Attacker:
    """A connection of protocol 8.0.0 with a buffer.

    Attributes:
        handle: the buffer's handle, which is also its base address.
        received: all bytes that the server has sent.
    """

    def __init__(self, endpoint: Endpoint, greet: bool = True) -> None:
        # The log limits the lines per host, so each attacker has another address.
        host = f"127.{randrange(1, 255)}.{randrange(255)}.{randrange(1, 255)}"
        self.socket = socket.create_connection(endpoint, REPLY_SECONDS, (host, 0))
        self.received = bytearray()
        self.handle = 0
        if greet:
            self.send(HELLO)
            self.reply()
            self.handle, _ = self.ask(Command.ALLOC_BUFFER, "<IQ", 0, SIZE, reply="<QQ")

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        try:
            self.socket.sendall(raw)
        except OSError as error:
            raise ClosedError from error

    def command(self, command: int, payload: bytes, size: int | None = None) -> None:
        """Send a request; `size` is what its header claims, if given."""
        size = len(payload) if size is None else size
        self.send(struct.pack("<BQ", command, size) + payload)

    def ask(
        self, command: int, layout: str, *values: Any, reply: str
    ) -> tuple[Any, ...]:
        """Send a request and decode its reply."""
        self.command(command, struct.pack(layout, *values))
        return struct.unpack(reply, self.reply())

    def reply(self) -> bytes:
        """Receive a reply and return its payload."""
        (size,) = struct.unpack("<Q", self._receive(8))
        return self._receive(size)

    def settle(self) -> None:
        """Send no more, and receive until the server has processed everything."""
        with contextlib.suppress(ClosedError, OSError):
            self.socket.shutdown(socket.SHUT_WR)
            while True:
                self._receive(1)

    def write(self, data: bytes, offset: int = 0) -> None:
        """Write bytes to the buffer."""
        record = self.tensor(ne=(len(data), 1, 1, 1))
        head = record.tobytes() + struct.pack("<BQ", 0, offset)
        self.command(Command.SET_TENSOR, head + data)

    def compute(self, graph: bytes) -> None:
        """Send a graph."""
        self.command(Command.GRAPH_COMPUTE, struct.pack("<IQ", 0, 1) + graph)

    def tensor(
        self,
        type: int = GGMLType.I8,
        ne: tuple[int, ...] = (64, 1, 1, 1),
        **fields: Any,
    ) -> Record:
        """An rpc_tensor at the start of the buffer."""
        record = np.zeros(1, RPC_TENSOR)[0]
        known = GGMLType(type) if type in set(GGMLType) else GGMLType.F32
        nb = contiguous_nb(known, (*ne, 1, 1, 1)[:4])
        values = {"id": 1, "type": type, "ne": ne, "buffer": self.handle}
        values |= {"nb": [b & 0xFFFFFFFF for b in nb], "data": self.handle, **fields}
        for name, value in values.items():
            record[name] = (*value, 1, 1, 1)[:4] if name == "ne" else value
        return record

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def _receive(self, size: int) -> bytes:
        start = len(self.received)
        while len(self.received) < start + size:
            left = start + size - len(self.received)
            try:
                part = self.socket.recv(min(left, 1 << 20))
            except TimeoutError:
                raise AssertionError("the server neither answers nor closes") from None
            except OSError as error:
                raise ClosedError from error
            if not part:
                raise ClosedError
            self.received += part
        return bytes(self.received[start:])


class Bystander:
    """A well-behaved client of the server that is attacked."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._secret = secrets.token_bytes(32)
        self._client = connect(endpoint, timeout=REPLY_SECONDS)
        size = 1 << 14
        handle = self._client.allocate(size)
        whole = Tensor(
            1,
            GGMLType.I8,
            handle,
            (size, 1, 1, 1),
            contiguous_nb(GGMLType.I8, (size, 1, 1, 1)),
        )
        self._tensor = whole._replace(data=self._client.base(handle))
        self._data = self._secret * (size // len(self._secret))
        self._client.set_tensor(self._tensor, self._data)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def check(self, attacker: Attacker | None = None) -> None:
        """Check that its data did not change or leak, and that a new client works."""
        found = bytearray(len(self._data))
        self._client.get_tensor(self._tensor, memoryview(found))
        assert found == self._data, "another client's data changed"
        if attacker is not None:
            assert self._secret[:12] not in attacker.received, (
                "another client's data leaked"
            )
        start = time.monotonic()
        with contextlib.closing(self.new_client()) as client:
            client.memory(0)
        took = time.monotonic() - start
        assert took < SERVED_SECONDS, f"a new client was served after {took:.1f} s"

    def new_client(self) -> Client:
        """Connect another client."""
        return connect(self._endpoint, timeout=REPLY_SECONDS)

    def compute(self, case: Case) -> None:
        """Check that the server computes a graph correctly for a new client."""
        with contextlib.closing(self.new_client()) as client:
            run_case_on(client, case)


@contextlib.contextmanager
def attacking(endpoint: Endpoint, greet: bool = True) -> Iterator[Attacker]:
    """An attacker whose connection is closed at the end."""
    attacker = Attacker(endpoint, greet)
    try:
        yield attacker
    finally:
        attacker.close()
