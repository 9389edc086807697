"""Fuzzing targets without a socket.

A target accepts any bytes, and raises an exception only if ggrpc has a bug. Its seeds
are valid, so that a fuzzer gets past the first checks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from random import Random
from typing import NamedTuple

import numpy as np

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Memory
from ggrpc.engine.server import address_space
from ggrpc.engine.server.address_space import LOWEST
from ggrpc.engine.server.connection_handler import ConnectionHandler
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.negotiation import FixedNegotiator
from ggrpc.engine.server.quotas import ServerQuota
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.connection import ClientConnection, ServerConnection
from ggrpc.engine.wire.dialects import DIALECTS, V8_0_0, Dialect
from ggrpc.engine.wire.graphs import write_graph
from ggrpc.engine.wire.tensors import RPC_TENSOR, TENSOR_BYTES
from ggrpc.errors import RemoteProtocolError
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.cases import all_cases
from tests.support.mutations import (
    MUTATIONS,
    payload_of,
    records_of,
    run_guarded,
)
from tests.support.tape import CHUNK, PEER, Tape

SIZE = 1 << 14  # bytes of a buffer
LIMITS = Limits(memory=1 << 24, message=1 << 20, nodes=1 << 10)
GRAPHS = 4  # in a session
SECRET = bytes(range(255, 191, -1))
IMAGES = bytes(SIZE), np.random.default_rng(0).bytes(SIZE)

Mutate = Callable[[bytes, Random], bytes]
Read = Callable[[], m.Request | m.Reply | None]


class Target(NamedTuple):
    """A fuzzing target.

    Attributes:
        run: tests one input.
        seeds: generates valid inputs.
        mutate: makes an invalid input from a valid one; None to let the fuzzer do it.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    mutate: Mutate | None = None


def codec(data: bytes) -> None:
    """Decode as a server and as a client; the first byte selects the version."""
    dialect, rest = _dialect_of(data)
    server = ServerConnection(lambda size: dialect, LIMITS.message)
    _feed(server, server.next_request, rest, len(rest))
    client = ClientConnection(dialect)
    requests = _requests(dialect)
    for request in requests:
        client.request(request)
    answered = sum(dialect.replies[r.command] is not None for r in requests)
    _feed(client, client.next_reply, rest, answered)


def _feed(
    side: ServerConnection | ClientConnection, read: Read, data: bytes, most: int
) -> None:
    """Feed bytes to a reader until it has `most` messages or rejects them."""
    left = memoryview(data)
    with suppress(RemoteProtocolError):
        while left and most:
            space = side.space()
            count = min(len(space), len(left), CHUNK)
            assert count, "the reader needs more bytes but has no space"
            space[:count] = left[:count]
            side.filled(count)
            left = left[count:]
            while most and (message := read()) is not None:
                most -= 1
                if isinstance(message, m.SetTensor | m.SetTensor2D | m.TensorData):
                    rows = isinstance(message, m.SetTensor2D)
                    size = message.data_size if rows else message.size
                    here = side.take(memoryview(bytearray(min(size, SIZE))))
                    if here < size:
                        return  # the rest of the data bypasses the reader


def _codec_seeds() -> Iterator[bytes]:
    for number, dialect in enumerate(DIALECTS):
        yield bytes([number]) + _encoded(
            dialect, [*_requests(dialect), _graph(dialect)]
        )


def validation(data: bytes) -> None:
    """Run a graph on the cpu; it is refused or stays inside its buffers."""
    run_guarded(_device(), data, IMAGES[len(data) % 2])


def _validation_seeds() -> Iterator[bytes]:
    for case in all_cases().values():
        if case.size <= SIZE:
            yield payload_of(*records_of(case))


def _mutate_field(payload: bytes, random: Random) -> bytes:
    """Change one field of one tensor of a graph."""
    first = len(payload) % TENSOR_BYTES
    records = np.frombuffer(payload[first:], RPC_TENSOR).copy()
    if len(records):
        random.choice(MUTATIONS)(records, random)
    return payload[:first] + records.tobytes()


class _Alarm(logging.Handler):
    """A log handler that raises the exceptions that are logged as bugs."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise record.exc_info[1]


ALARM = _Alarm()


def session(data: bytes) -> None:
    """Run a session; the first byte selects the version.

    Another client's memory must not change or leak, and all memory must be freed.
    """
    dialect, rest = _dialect_of(data)
    device, negotiator = _device(), FixedNegotiator([dialect])
    settings = ServerSettings(PEER, [device], negotiator, limits=LIMITS)
    quotas, tape = ServerQuota(LIMITS, [device]), Tape(rest)
    other = device.allocate(SIZE)
    other.put(0, memoryview(SECRET * (SIZE // len(SECRET))))
    logging.getLogger("ggrpc").addHandler(ALARM)
    address_space.RANDOM_PAGES = 1  # seeds name addresses
    try:
        ConnectionHandler(tape, settings, quotas.new_client()).run()
        left = quotas.new_client().memory.within(Memory(LIMITS.memory, LIMITS.memory))
        assert left.free == LIMITS.memory, "memory was not freed"
        assert SECRET[:8] not in tape.sent, "another client's data leaked"
        assert bytes(other.read(0, SIZE)) == SECRET * (SIZE // len(SECRET))
    finally:
        logging.getLogger("ggrpc").removeHandler(ALARM)
        other.free()


def _session_seeds() -> Iterator[bytes]:
    """Every request in every version, and every op in one version."""
    for number, dialect in enumerate(DIALECTS):
        graphs = _graphs(dialect) if dialect is V8_0_0 else iter([_graph(dialect)])
        requests = _requests(dialect)
        at = 1 + next(i for i, r in enumerate(requests) if isinstance(r, m.BufferClear))
        while some := list(islice(graphs, GRAPHS)):
            # A buffer of zeros before each graph makes all indices valid.
            cleared = [r for graph in some for r in (requests[at - 1], graph)]
            said = _encoded(dialect, [*requests[:at], *cleared, *requests[at:]])
            yield bytes([number]) + said


def _encoded(dialect: Dialect, requests: Sequence[m.Request]) -> bytes:
    client = ClientConnection(dialect)
    return b"".join(piece for r in requests for piece in client.request(r))


def _graphs(dialect: Dialect) -> Iterator[m.Request]:
    """The graphs of all small cases."""
    for name, case in all_cases().items():
        if case.size <= SIZE:
            yield _graph(dialect, name)


def _graph(dialect: Dialect, name: str = "arithmetic-SQR-F32") -> m.Request:
    graph = all_cases()[name].graph(LOWEST, LOWEST)
    payload = write_graph(graph, dialect.table, dialect.optional)
    return m.GraphCompute(uid=1 if dialect.has_uids else None, graph=payload)


def _requests(dialect: Dialect) -> list[m.Request]:
    """One request of each kind that the version has, in a valid order.

    Graphs can follow the BUFFER_CLEAR.
    """
    ne = (64, 1, 1, 1)
    nb = contiguous_nb(GGMLType.I8, ne)
    tensor = Tensor(1, GGMLType.I8, LOWEST, ne, nb, data=LOWEST)
    requests: list[m.Request] = [
        m.Hello(caps=bytes(dialect.hello_size)),
        m.DeviceCount(),
        m.GetAlignment(),
        m.GetMaxSize(),
        m.GetDeviceMemory(),
        m.AllocBuffer(size=SIZE),
        m.BufferGetBase(remote_ptr=LOWEST),
        m.GetAllocSize(tensor=tensor, srcs=(None,) * 10),
        m.GetDeviceSupportsOp(tensor=tensor, srcs=(None,) * 10),
        m.InitTensor(tensor=tensor),
        m.SetTensorHash(tensor=tensor, offset=0, hash=0xCBF29CE484222325),
        m.SetTensor(tensor=tensor, offset=0, size=64, data=bytes(range(64))),
        m.MemsetTensor(tensor=tensor, offset=8, size=4, value=7),
        m.SetTensor2D(
            tensor=tensor,
            offset=0,
            size=4,
            n_copies=3,
            stride=8,
            data_size=12,
            data=bytes(range(12)),
        ),
        m.GetTensor2D(tensor=tensor, offset=0, size=4, n_copies=3, stride=8),
        m.CommInit(device=0, rank=2, world=2, port=0, host=bytes(64)),
        m.CommFree(device=0),
        m.CopyTensor(src=tensor, dst=tensor._replace(data=LOWEST + 32)),
        m.BufferClear(remote_ptr=LOWEST, value=0),
        m.GraphRecompute(uid=1 if dialect.has_uids else None),
        m.GetTensor(tensor=tensor, offset=0, size=64),
        m.FreeBuffer(remote_ptr=LOWEST),
    ]
    return [request for request in requests if request.command in dialect.commands]


def _dialect_of(data: bytes) -> tuple[Dialect, bytes]:
    number = data[0] if data else 0
    return DIALECTS[number % len(DIALECTS)], data[1:]


@cache
def _device() -> CpuDevice:
    return CpuDevice(threads=1, weight_cache=1 << 20)


TARGETS = {
    "codec": Target(codec, _codec_seeds),
    "validation": Target(validation, _validation_seeds, _mutate_field),
    "session": Target(session, _session_seeds),
}
