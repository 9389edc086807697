"""A recorded connection on a new device."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.recording.exchanges import Exchange
from ggrpc.engine.recording.journal import Message, Omitted
from ggrpc.engine.recording.replay_session import MAX_WRITE, ReplaySession
from ggrpc.engine.recording.substitute_weights import SubstituteWeights
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.dialects import dialect_named
from ggrpc.engine.wire.graphs import write_graph
from ggrpc.errors import RecordingError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

DIALECT, NEWEST = dialect_named("3.6.1"), dialect_named("8.0.0")
USED, OTHER = 5, 6  # handles
BASE = 1 << 20  # the recorded address of the used buffer
NE = (4, 1, 1, 1)
X = Tensor(1, GGMLType.F32, USED, NE, contiguous_nb(GGMLType.F32, NE), data=BASE)
Y = X._replace(id=2, op=Op.SQR, src=(1, *(0,) * 9), data=BASE + 64, raw_name=b"y")
GRAPH = m.GraphCompute(
    graph=write_graph(Graph.of([X, Y], [2]), DIALECT.table, DIALECT.optional)
)


class RecordedMessage(Message):
    """A message whose payload is in memory, in pieces."""

    def __init__(
        self, command: int, *pieces: bytes, omitted: Omitted | None = None
    ) -> None:
        super().__init__(1, 0, False, command, sum(map(len, pieces)))
        self._pieces = pieces
        self.omitted = omitted

    def parts(self) -> Iterator[bytes]:
        return iter(self._pieces)


def do(
    session: ReplaySession,
    request: m.Request,
    reply: m.Reply | None = None,
    data: tuple[bytes, ...] = (),
    omitted: Omitted | None = None,
) -> bytes | None:
    """Replay a request that was recorded with this reply."""
    dialect = DIALECT if request.command in DIALECT.commands else NEWEST
    fields = dialect.requests[request.command.number].write(request)
    message = RecordedMessage(request.command.number, fields, *data, omitted=omitted)
    exchange = Exchange(1, dialect, message)
    exchange.request = request
    exchange.reply = reply
    return session.replay(exchange)


def put(session: ReplaySession, tensor: Tensor, *pieces: bytes, at: int = 0) -> None:
    size = sum(map(len, pieces))
    do(session, m.SetTensor(tensor=tensor, offset=at, size=size), data=pieces)


def get(session: ReplaySession, tensor: Tensor, size: int = 16) -> bytes | None:
    return do(session, m.GetTensor(tensor=tensor, offset=0, size=size))


def allocate(session: ReplaySession, handle: int, base: int, size: int = 128) -> None:
    """The recorded server gave the buffer more bytes than the client asked for."""
    allocated = m.Allocated(remote_ptr=handle, remote_size=size)
    do(session, m.AllocBuffer(size=100), allocated)
    do(session, m.BufferGetBase(remote_ptr=handle), m.Base(base_ptr=base))


@pytest.fixture
def session() -> Iterator[ReplaySession]:
    """Two buffers, and a graph that uses one of them."""
    device = CpuDevice(threads=1, weight_cache=0)
    session = ReplaySession([device], DIALECT, SubstituteWeights())
    allocate(session, USED, BASE)
    allocate(session, OTHER, 2 * BASE)
    do(session, GRAPH)
    yield session
    session.close()
    device.close()


def test_recorded_addresses_find_new_buffers(session: ReplaySession) -> None:
    put(session, X, struct.pack("<4f", 1, 2, 3, 4))
    do(session, GRAPH)
    assert get(session, Y) == struct.pack("<4f", 1, 4, 9, 16)
    assert len(session.seconds) == 1


def test_graph_outlives_a_buffer_that_it_does_not_use(session: ReplaySession) -> None:
    do(session, m.FreeBuffer(remote_ptr=OTHER))
    put(session, X, struct.pack("<4f", 1, 2, 3, 4))
    do(session, m.GraphRecompute())
    assert get(session, Y) == struct.pack("<4f", 1, 4, 9, 16)


def test_graph_does_not_outlive_a_buffer_that_it_uses(session: ReplaySession) -> None:
    do(session, m.FreeBuffer(remote_ptr=USED))
    with pytest.raises(RecordingError, match=r"device 0 has no graph .* lacks it"):
        do(session, m.GraphRecompute())
    with pytest.raises(RecordingError, match="was not allocated in the recording"):
        get(session, X)
    with pytest.raises(RecordingError, match=r"device 1 has no graph .* lacks it"):
        do(session, m.GraphRecompute(device=1))


def test_failed_allocation_is_not_repeated(session: ReplaySession) -> None:
    failed = m.Allocated(remote_ptr=0, remote_size=0)
    do(session, m.AllocBuffer(size=1 << 62), failed)


def test_missing_device_is_replaced_by_the_first(session: ReplaySession) -> None:
    do(session, m.GraphCompute(device=7, graph=GRAPH.graph))
    do(session, m.GraphRecompute(device=7))
    assert len(session.graph(7).node_ids) == 1


def test_hash_unknown_to_the_recorded_server_writes_nothing(
    session: ReplaySession,
) -> None:
    before = get(session, X)
    request = m.SetTensorHash(tensor=X, offset=0, hash=1)
    do(session, request, m.Result(result=0))
    assert get(session, X) == before
    do(session, request, m.Result(result=1))
    assert get(session, X) != before


def test_plain_bytes_get_the_name_of_the_tensor_there(session: ReplaySession) -> None:
    plain = Tensor(9, GGMLType.I8, USED, (16, 1, 1, 1), (1, 16, 16, 16), data=Y.data)
    assert session.named(plain, 16).name == "y"
    assert session.named(plain, 8) is plain
    assert session.named(plain._replace(data=BASE), 16) is not Y


def test_bytes_outside_a_buffer_are_refused(session: ReplaySession) -> None:
    outside = "do not lie inside its buffer of 128"
    with pytest.raises(RecordingError, match=outside):
        put(session, X, bytes(9), at=120)
    with pytest.raises(RecordingError, match=outside):
        get(session, X._replace(data=BASE - 4), 8)
    request = m.SetTensorHash(tensor=X, offset=17, hash=1)
    with pytest.raises(RecordingError, match=outside):
        do(session, request, m.Result(result=1))


def test_large_data_is_written_in_parts(session: ReplaySession) -> None:
    size = 2 * MAX_WRITE + 5
    allocate(session, 7, 4 * BASE, size + 1)
    ne = (size, 1, 1, 1)
    nb = contiguous_nb(GGMLType.I8, ne)
    tensor = Tensor(1, GGMLType.I8, 7, ne, nb, data=4 * BASE)
    pieces = (b"ab", bytes(MAX_WRITE), b"cde", bytes([7]) * MAX_WRITE)
    put(session, tensor, *pieces, at=1)
    assert get(session, tensor, size + 1) == b"\0" + b"".join(pieces)


ROWS = m.SetTensor2D(tensor=X, offset=0, size=4, n_copies=2, stride=8, data_size=8)


def test_rows_are_written_and_read(session: ReplaySession) -> None:
    put(session, X, bytes(16))
    do(session, ROWS, data=(b"abc", b"defgh"))
    assert get(session, X) == b"abcd\0\0\0\0efgh\0\0\0\0"
    rows = m.GetTensor2D(tensor=X, offset=2, size=4, n_copies=2, stride=8)
    assert do(session, rows) == b"cd\0\0gh\0\0"


def test_rows_that_were_not_recorded_are_random(session: ReplaySession) -> None:
    put(session, X, bytes(16))
    do(session, ROWS, omitted=Omitted(8, 1))
    first, gap, second, _ = struct.unpack("<4f", get(session, X) or b"")
    assert first and second and first != second and not gap


def test_many_rows_are_written_in_parts(session: ReplaySession) -> None:
    count = (MAX_WRITE // 1000) + 5
    allocate(session, 7, 4 * BASE, 1001 * count)
    ne = (1001 * count, 1, 1, 1)
    tensor = Tensor(
        1, GGMLType.I8, 7, ne, contiguous_nb(GGMLType.I8, ne), data=4 * BASE
    )
    request = m.SetTensor2D(
        tensor=tensor,
        offset=1,
        size=1000,
        n_copies=count,
        stride=1001,
        data_size=1000 * count,
    )
    do(session, request, data=(b"x" * 1000 * count,))
    assert (
        get(session, tensor, 1001 * count)
        == b"\0" + (b"x" * 1000 + b"\0") * (count - 1) + b"x" * 1000
    )


def test_sum_with_another_server_is_refused(session: ReplaySession) -> None:
    with pytest.raises(RecordingError, match="GGML_RPC_NO_COMM=1"):
        do(session, m.CommAllreduce(device=0, tensor=X))
