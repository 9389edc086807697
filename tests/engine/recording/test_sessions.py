"""What a recorded connection has on the target."""

from __future__ import annotations

import struct

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.recording.sessions import AT_ONCE, ReplaySession, write
from ggrpc.engine.wire.dialects import dialect_named
from ggrpc.engine.wire.graphs import write_graph
from ggrpc.errors import GraphError, RecordingError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

DIALECT = dialect_named("3.6.1")
USED, OTHER = 5, 6  # handles
NE = (4, 1, 1, 1)
X = Tensor(1, GGMLType.F32, USED, NE, contiguous_nb(GGMLType.F32, NE), data=USED)
Y = X._replace(id=2, op=Op.SQR, src=(1, *(0,) * 9), data=USED + 64, raw_name=b"y")


@pytest.fixture
def device() -> CpuDevice:
    return CpuDevice(threads=1, weight_cache=0)


@pytest.fixture
def session(device: CpuDevice) -> ReplaySession:
    """Two buffers, of which the graph that was sent uses one."""
    session = ReplaySession(DIALECT)
    session.allocate(device, USED, 128)
    session.allocate(device, OTHER, 128)
    payload = write_graph(Graph.of([X, Y], [2]), DIALECT.table, DIALECT.optional)
    session.program(device, 0, payload)
    return session


def test_graph_outlives_a_buffer_that_it_does_not_use(
    device: CpuDevice, session: ReplaySession
) -> None:
    session.release(OTHER)
    buffer = session.buffer(USED)
    buffer.put(0, memoryview(struct.pack("<4f", 1, 2, 3, 4)))
    session.last(device, 0).run()
    with buffer.read(64, 16) as view:
        assert struct.unpack("<4f", view) == (1, 4, 9, 16)


def test_graph_does_not_outlive_what_it_uses(
    device: CpuDevice, session: ReplaySession
) -> None:
    session.release(USED)
    with pytest.raises(GraphError, match="buffer 0x5 is not of this session"):
        session.last(device, 0)
    with pytest.raises(RecordingError, match="was not allocated in the recording"):
        session.buffer(USED)
    with pytest.raises(RecordingError, match="not in the recording"):
        session.last(device, 1)


def test_plain_bytes_have_the_name_of_what_is_there(session: ReplaySession) -> None:
    plain = Tensor(9, GGMLType.I8, USED, (16, 1, 1, 1), (1, 16, 16, 16), data=Y.data)
    assert session.named(plain, 16).name == "y"
    assert session.named(plain, 8) is plain
    assert session.named(plain._replace(data=USED), 16) is not Y


def test_bytes_outside_a_buffer_are_refused(session: ReplaySession) -> None:
    for offset, size in (120, 9), (-1, 4), (0, -1):
        with pytest.raises(RecordingError, match="do not lie inside its buffer of 128"):
            session.place(X, offset, size)


def test_pieces_are_joined_on_their_way(device: CpuDevice) -> None:
    buffer = device.allocate(2 * AT_ONCE + 5)
    pieces = [b"ab", bytes(AT_ONCE), b"cde", bytes([7]) * (AT_ONCE - 5), b"xyz"]
    write(buffer, 1, iter(pieces))
    with buffer.read(0, buffer.size) as view:
        assert bytes(view[1:]).startswith(b"".join(pieces))
