"""Messages in a byte stream that arrives in pieces of any size."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ggrpc.engine.cache.fnv1a import fnv1a
from ggrpc.engine.recording.chunk_file import ChunkWriter
from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.framing import ConnectionTap
from ggrpc.engine.recording.journal import Closed, Journal, JournalWriter, Omitted
from ggrpc.engine.recording.weight_recording import WeightRecording
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import Dialect, dialect_named
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

NE = (300, 1, 1, 1)
WEIGHT = Tensor(7, GGMLType.F32, 5, NE, contiguous_nb(GGMLType.F32, NE), data=64)
BYTES = bytes(range(256)) * 4 + bytes(176)


def framed(dialect: Dialect, *requests: m.Request) -> bytes:
    """The bytes that a client sends."""
    sent = b""
    for request in requests:
        number = request.command.number
        layout = dialect.requests[number]
        payload = layout.write(request)
        if layout.tail:
            payload += getattr(request, layout.tail)
        sent += struct.pack("<BQ", number, len(payload)) + payload
    return sent


def hello(dialect: Dialect) -> tuple[bytes, bytes]:
    """The bytes of the client's HELLO and of the reply."""
    caps = bytes(dialect.hello_size)
    layout = dialect.replies[Command.HELLO]
    assert layout is not None
    major, minor, patch = dialect.version
    welcome = m.Welcome(major=major, minor=minor, patch=patch, padding=0, caps=caps)
    reply = layout.write(welcome)
    sent = struct.pack("<BQ", Command.HELLO, len(caps)) + caps
    return sent, struct.pack("<Q", len(reply)) + reply


def recorded(
    path: Path, dialect: Dialect, sent: bytes, step: int, weights: WeightRecording
) -> list[Exchange]:
    """Record a conversation whose bytes arrive in steps; returns its exchanges."""
    chunks = ChunkWriter(path, force=True)
    journal = JournalWriter(chunks)
    journal.opened(3, "client", "server")
    tap = ConnectionTap(journal, 3, weights, lambda: None, lambda identity: None)
    greeting, answer = hello(dialect)
    tap.requests.feed(memoryview(greeting))
    tap.replies.feed(memoryview(answer))
    for at in range(0, len(sent), step):
        tap.requests.feed(memoryview(sent[at : at + step]))
    journal.closed(3, False)
    chunks.close()
    with Journal(path) as read:
        *found, closed = exchanges(read)
        assert not read.cut
        assert [
            exchange.request for exchange in found
        ]  # decoded while the file is open
    assert isinstance(closed, Closed)
    assert isinstance(found[0].request, m.Hello)
    return found[1:]


@pytest.fixture(params=["8.0.0", "7.0.0", "3.6.1", "2.0.0"])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return dialect_named(request.param)


def conversation(dialect: Dialect) -> bytes:
    """A weight, a buffer, the input and the weight, a graph, and both again."""
    weight = m.SetTensor(tensor=WEIGHT, offset=0, size=len(BYTES), data=BYTES)
    data = m.SetTensor(
        tensor=WEIGHT._replace(buffer=6), offset=0, size=len(BYTES), data=BYTES
    )
    graph = m.GraphCompute(uid=0 if dialect.has_uids else None, graph=bytes(8))
    memory = m.AllocBuffer(size=1 << 20)
    return framed(dialect, weight, memory, data, weight, graph, data, weight)


@pytest.mark.parametrize("step", [1, 7, 100, 1 << 20])
def test_everything_is_recorded_in_pieces_of_any_size(
    tmp_path: Path, dialect: Dialect, step: int
) -> None:
    path, sent = tmp_path / "g", conversation(dialect)
    found = recorded(path, dialect, sent, step, WeightRecording.FULL)
    kinds = [type(exchange.request) for exchange in found]
    assert kinds.count(m.SetTensor) == 5 and m.GraphCompute in kinds
    with Journal(path) as journal:
        for exchange in exchanges(journal):
            if isinstance(exchange, Closed):
                continue
            if isinstance(exchange.request, m.SetTensor):
                size = dialect.requests[Command.SET_TENSOR].size
                assert b"".join(exchange.message.tail(size)) == BYTES
                assert exchange.request.tensor.data == WEIGHT.data


@pytest.mark.parametrize("step", [1, 100, 1 << 20])
@pytest.mark.parametrize("weights", [WeightRecording.HASH, WeightRecording.NONE])
def test_weights_are_omitted_and_inputs_are_not(
    tmp_path: Path, dialect: Dialect, step: int, weights: WeightRecording
) -> None:
    found = recorded(tmp_path / "g", dialect, conversation(dialect), step, weights)
    omitted = [e.message.omitted for e in found if isinstance(e.request, m.SetTensor)]
    hash = fnv1a(BYTES) if weights is WeightRecording.HASH else 0
    expected = Omitted(len(BYTES), hash)
    assert omitted == [expected, None, expected, None, None]


def test_missing_reply_is_marked(tmp_path: Path) -> None:
    dialect = dialect_named("3.6.1")
    asked = m.GetTensor(tensor=WEIGHT, offset=0, size=4)
    sent = framed(dialect, m.GraphCompute(graph=bytes(8)), asked)
    graph, exchange = recorded(
        tmp_path / "g", dialect, sent, 1 << 20, WeightRecording.FULL
    )
    assert graph.answered  # this version has no reply to a graph
    assert isinstance(exchange.request, m.GetTensor)
    assert not exchange.answered


def test_rows_of_weights_are_omitted(tmp_path: Path) -> None:
    dialect = dialect_named("8.0.0")
    size = len(BYTES) // 2
    rows = m.SetTensor2D(
        tensor=WEIGHT,
        offset=0,
        size=size,
        n_copies=2,
        stride=size,
        data_size=len(BYTES),
        data=BYTES,
    )
    (found,) = recorded(
        tmp_path / "g", dialect, framed(dialect, rows), 64, WeightRecording.HASH
    )
    assert isinstance(found.request, m.SetTensor2D)
    assert found.message.omitted == Omitted(len(BYTES), fnv1a(BYTES))


READ_ROWS = m.GetTensor2D(tensor=WEIGHT, offset=0, size=4, n_copies=2, stride=8)


@pytest.mark.parametrize(
    ("version", "asked"),
    [("7.0.1", m.GetDeviceSupportsOp(tensor=WEIGHT)), ("8.0.0", READ_ROWS)],
)
def test_number_means_what_its_version_says(
    tmp_path: Path, version: str, asked: m.Request
) -> None:
    """Both commands have the number 19 and a reply, which is missing here."""
    dialect = dialect_named(version)
    sent = framed(dialect, asked)
    (found,) = recorded(tmp_path / "g", dialect, sent, 64, WeightRecording.FULL)
    assert type(found.request) is type(asked)
    assert (found.name, found.answered) == (asked.command.name, False)
