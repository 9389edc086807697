from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ggrpc.engine.server.negotiation import FixedNegotiator
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.connection import ClientConnection, ServerConnection, _Side
from ggrpc.engine.wire.dialects import (
    DEFAULTS,
    DIALECTS,
    V7_0_0,
    Dialect,
    dialect_named,
)
from ggrpc.engine.wire.graphs import read_graph, write_graph
from ggrpc.engine.wire.op_tables import op_table_named
from ggrpc.errors import LocalProtocolError, RemoteProtocolError
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.paths import shared

TENSOR = Tensor(
    id=0x55D0,
    type=GGMLType.F32,
    buffer=0x1000,
    ne=(4, 2, 1, 1),
    nb=(4, 16, 32, 32),
    data=0x1040,
    raw_name=b"blk.0.attn_q.weight",
)

REQUESTS = [
    m.AllocBuffer(size=1 << 40),
    m.GetAlignment(),
    m.GetMaxSize(),
    m.BufferGetBase(remote_ptr=7),
    m.FreeBuffer(remote_ptr=7),
    m.BufferClear(remote_ptr=7, value=255),
    m.SetTensor(tensor=TENSOR, offset=8, size=3, data=b"abc"),
    m.SetTensorHash(tensor=TENSOR, offset=8, hash=2**64 - 1),
    m.GetTensor(tensor=TENSOR, offset=8, size=3),
    m.CopyTensor(src=TENSOR, dst=TENSOR._replace(id=2)),
    m.GraphCompute(uid=2**64 - 1, graph=struct.pack("<II", 0, 0)),
    m.GetDeviceMemory(),
    m.InitTensor(tensor=TENSOR),
    m.GetAllocSize(tensor=TENSOR, srcs=(TENSOR, None) + (None,) * 8),
    m.DeviceCount(),
    m.GraphRecompute(uid=7),
    m.MemsetTensor(tensor=TENSOR, offset=8, size=3, value=1),
    m.SetTensor2D(
        tensor=TENSOR, offset=8, size=1, n_copies=3, stride=8, data_size=3, data=b"abc"
    ),
    m.GetTensor2D(tensor=TENSOR, offset=8, size=1, n_copies=3, stride=8),
    m.CommInit(device=1, rank=1, world=2, port=51052, host=b"node7".ljust(64, b"\0")),
    m.CommAllreduce(device=1, tensor=TENSOR),
    m.CommFree(device=1),
    m.GetDeviceSupportsOp(tensor=TENSOR, srcs=(None, TENSOR) + (None,) * 8),
]

# The op table of the client that was captured.
TRACED = {
    "2.0.0": "2025-08-14b",
    "3.6.1": "2026-03-15",
    "4.0.0": "2026-03-15",
    "5.0.0": "2026-07-17b",
    "7.0.0": "2026-09-11",
    "8.0.0": "2026-09-11",
    "8.0.0-tensor/rank0": "2026-09-11",
    "8.0.0-tensor/rank1": "2026-09-11",
}

REPLIES = {
    Command.ALLOC_BUFFER: m.Allocated(remote_ptr=1 << 63, remote_size=1 << 40),
    Command.GET_ALIGNMENT: m.Alignment(alignment=64),
    Command.GET_MAX_SIZE: m.MaxSize(max_size=2**64 - 1),
    Command.BUFFER_GET_BASE: m.Base(base_ptr=1 << 36),
    Command.SET_TENSOR_HASH: m.Result(result=1),
    Command.GET_TENSOR: m.TensorData(size=3, data=b"xyz"),
    Command.GET_TENSOR_2D: m.TensorData(size=3, data=b"xyz"),
    Command.COMM_INIT: m.Result(result=1),
    Command.COPY_TENSOR: m.Result(result=0),
    Command.GET_DEVICE_MEMORY: m.DeviceMemory(free=1, total=2),
    Command.GET_ALLOC_SIZE: m.AllocSize(alloc_size=32),
    Command.DEVICE_COUNT: m.Count(device_count=3),
    Command.GRAPH_COMPUTE: m.Status(status=0),
    Command.GET_DEVICE_SUPPORTS_OP: m.Result(result=1),
}


def answer(hello_size: int) -> Dialect:
    return FixedNegotiator(DEFAULTS).offer("a client", hello_size)


def feed(side: _Side, data: bytes) -> int:
    space = side.space()
    count = min(len(space), len(data))
    space[:count] = data[:count]
    side.filled(count)
    return count


def greeted(dialect: Dialect) -> tuple[ClientConnection, ServerConnection]:
    client, server = ClientConnection(dialect), ServerConnection(lambda size: dialect)
    hello = m.Hello(caps=bytes(dialect.hello_size))
    feed(server, b"".join(client.request(hello)))
    assert server.next_request() == hello
    caps = bytes(dialect.hello_size)
    padding = 0 if caps else None
    welcome = m.Welcome(**dialect.version._asdict(), padding=padding, caps=caps)
    feed(client, b"".join(server.reply(hello, welcome)))
    assert client.next_reply() == welcome
    return client, server


def data_size(message: m.SetTensor | m.SetTensor2D | m.TensorData) -> int:
    return message.data_size if isinstance(message, m.SetTensor2D) else message.size


def taken(side: _Side, message: m.SetTensor | m.SetTensor2D | m.TensorData) -> bytes:
    data = bytearray(data_size(message))
    assert side.take(memoryview(data)) == len(data)
    return bytes(data)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: str(d.version))
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: r.command.name)
@pytest.mark.parametrize("chunk", [1, 1 << 20], ids=["by_byte", "whole"])
def test_request_and_reply_survive_the_wire(
    dialect: Dialect, request_: m.Request, chunk: int
) -> None:
    client, server = greeted(dialect)
    if request_.command not in dialect.commands:
        with pytest.raises(LocalProtocolError, match="has no"):
            client.request(request_)
        return
    sent = b"".join(client.request(request_))
    streamed = getattr(request_, "data", None)
    whole = len(sent) - len(streamed or b"")
    for at in range(0, whole, chunk):
        assert server.next_request() is None
        feed(server, sent[at : min(at + chunk, whole)])
    received = server.next_request()
    if streamed:
        feed(server, sent[whole:])
        received = replace(received, data=taken(server, received))
    if "srcs" not in dialect.optional and isinstance(request_, m.GetAllocSize):
        request_ = replace(request_, srcs=())
    if not dialect.has_uids and isinstance(request_, m.GraphCompute | m.GraphRecompute):
        request_ = replace(request_, uid=None)
    assert received == request_
    reply = REPLIES.get(request_.command, m.Done())
    back = b"".join(server.reply(request_, reply))
    if dialect.replies[request_.command] is None:
        assert back == b""
        return
    for at in range(0, len(back), chunk):
        feed(client, back[at : at + chunk])
    answer = client.next_reply()
    if isinstance(answer, m.TensorData):
        answer = replace(answer, data=taken(client, answer))
    assert answer == reply


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: str(d.version))
def test_hello_that_comes_byte_by_byte_is_one_hello(dialect: Dialect) -> None:
    client, server = ClientConnection(dialect), ServerConnection(lambda size: dialect)
    hello = m.Hello(caps=bytes(dialect.hello_size))
    for byte in b"".join(client.request(hello)):
        assert server.next_request() is None
        assert server.dialect is None
        feed(server, bytes([byte]))
    assert server.next_request() == hello
    assert server.dialect is dialect


def test_pipelined_requests_come_out_in_order() -> None:
    client, server = greeted(V7_0_0)
    requests = [m.GraphRecompute(device=i) for i in range(5)]
    feed(server, b"".join(b"".join(client.request(r)) for r in requests))
    assert [server.next_request() for _ in range(6)] == [*requests, None]


def test_data_larger_than_the_inbox_is_left_to_the_owner() -> None:
    client, server = greeted(V7_0_0)
    data = bytes(range(256)) * 4096
    request = m.SetTensor(tensor=TENSOR, offset=0, size=len(data), data=data)
    sent = b"".join(client.request(request))
    fed = feed(server, sent)
    received = server.next_request()
    assert isinstance(received, m.SetTensor)
    assert (received.size, received.data) == (len(data), None)
    place = bytearray(len(data))
    here = server.take(memoryview(place))
    place[here:] = sent[fed:]
    assert place == data
    assert server.next_request() is None


def test_request_before_the_data_is_taken_is_refused() -> None:
    client, server = greeted(V7_0_0)
    request = m.SetTensor(tensor=TENSOR, offset=0, size=3, data=b"abc")
    feed(server, b"".join(client.request(request)))
    assert server.next_request() is not None
    with pytest.raises(LocalProtocolError, match="not taken"):
        server.next_request()
    with pytest.raises(LocalProtocolError, match="only 3 bytes"):
        server.take(memoryview(bytearray(4)))


def head(command: int, size: int) -> bytes:
    return struct.pack("<BQ", command, size)


@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        (head(15, 0), "DEVICE_COUNT came before HELLO"),
        (head(14, 23), "HELLO of 23 bytes"),
        (head(14, 0) + head(99, 0), "protocol 3.6.1 has no command 99"),
        (head(14, 0) + head(17, 313), "has no MEMSET_TENSOR"),
        (
            head(14, 0) + head(0, 1 << 60),
            "ALLOC_BUFFER request of protocol 3.6.1 has 1152921504606846976",
        ),
        (
            head(14, 0) + head(6, 303),
            "SET_TENSOR request of protocol 3.6.1 has 303 bytes instead of 304",
        ),
        (
            head(14, 0) + head(10, 1 << 40),
            "GRAPH_COMPUTE request of protocol 3.6.1 has 1099511627776",
        ),
    ],
)
def test_client_that_breaks_the_protocol_is_named(sent: bytes, complaint: str) -> None:
    server = ServerConnection(answer)
    feed(server, sent)
    with pytest.raises(RemoteProtocolError, match=complaint):  # noqa: PT012
        while server.next_request():
            pass


def test_reply_of_another_length_is_refused() -> None:
    client, _ = greeted(V7_0_0)
    client.request(m.GetAlignment())
    feed(client, struct.pack("<Q", 9) + bytes(9))
    with pytest.raises(
        RemoteProtocolError, match=r"GET_ALIGNMENT in protocol .* has 9 bytes"
    ):
        client.next_reply()


def test_value_that_does_not_fit_is_refused() -> None:
    client, _ = greeted(V7_0_0)
    with pytest.raises(LocalProtocolError, match="BufferClear cannot be sent"):
        client.request(m.BufferClear(remote_ptr=1, value=256))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=2000), st.sampled_from([b"", head(14, 0), head(14, 24)]))
def test_garbage_gives_a_message_or_a_remote_error(noise: bytes, start: bytes) -> None:
    server = ServerConnection(answer)
    feed(server, start + (bytes(24) if start == head(14, 24) else b"") + noise)
    try:
        while (request := server.next_request()) is not None:
            if isinstance(request, m.SetTensor):
                return
    except RemoteProtocolError:
        pass


@pytest.mark.parametrize("version", TRACED)
def test_captured_session_decodes_and_encodes_byte_for_byte(version: str) -> None:
    folder = shared(f"traces/{version}")
    captures = sorted(folder.glob("conn*.c2s.bin"))
    assert captures
    for capture in captures:
        replies = capture.with_name(capture.name.replace("c2s", "s2c"))
        _replay(version, capture.read_bytes(), replies.read_bytes())


def _replay(version: str, requests: bytes, replies: bytes) -> None:
    dialect = dialect_named(version.split("-")[0])
    server = ServerConnection(lambda size: dialect)
    client = ClientConnection(dialect)
    asked, answered = Tape(server, requests), Tape(client, replies)
    sent: list[m.Bytes] = []
    returned: list[m.Bytes] = []
    while request := asked.message(server.next_request):
        if isinstance(request, m.GraphCompute):
            table = op_table_named(TRACED[version])
            graph = read_graph(request.graph, table)
            assert graph.nodes
            assert write_graph(graph, table, dialect.optional) == request.graph
        sent += client.request(request)
        if dialect.replies[request.command]:
            reply = answered.message(client.next_reply)
            returned += server.reply(request, reply)
    assert b"".join(sent) == requests
    assert b"".join(returned) == replies


class Tape:
    """Feeds recorded bytes to one side of a connection."""

    def __init__(self, side: _Side, recorded: bytes) -> None:
        self.side, self.left = side, recorded

    def message(self, ask):  # type: ignore[no-untyped-def]
        while (message := ask()) is None:
            if not self.left:
                return None
            self.left = self.left[feed(self.side, self.left) :]
        if not isinstance(message, m.SetTensor | m.SetTensor2D | m.TensorData):
            return message
        data = bytearray(data_size(message))
        here = self.side.take(memoryview(data))
        data[here:], self.left = (
            self.left[: len(data) - here],
            self.left[len(data) - here :],
        )
        return replace(message, data=data)
