from __future__ import annotations

import logging
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.server.server import Server
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import DIALECTS, NEWEST, V3_6_1, V7_0_1, Dialect
from ggrpc.engine.wire.messages import SetTensor
from ggrpc.errors import (
    BindError,
    ConnectionLost,
    LocalProtocolError,
    OutOfMemory,
    VersionMismatch,
)
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.clients import reset
from tests.support.servers import running
from tests.support.waiting import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def endpoint():  # type: ignore[no-untyped-def]
    with running() as endpoint:
        yield endpoint


@pytest.fixture(scope="module", params=DIALECTS, ids=lambda d: str(d.version))
def spoken(request):  # type: ignore[no-untyped-def]
    """A dialect, and a server of that dialect."""
    with running(dialects=(request.param,)) as endpoint:
        yield request.param, endpoint


@pytest.fixture
def client(spoken):  # type: ignore[no-untyped-def]
    dialect, endpoint = spoken
    with connect(endpoint, dialect, 20, dialect.table) as client:
        yield client


def placed(client: Client, count: int, at: int = 0, buffer: int = 0) -> Tensor:
    """A float32 vector in a buffer, a new one if none is given."""
    buffer = buffer or client.allocate(4 * (count + at))
    ne = (count, 1, 1, 1)
    return Tensor(
        id=1,
        type=GGMLType.F32,
        buffer=buffer,
        ne=ne,
        nb=contiguous_nb(GGMLType.F32, ne),
        data=client.base(buffer) + 4 * at,
        raw_name=b"x",
    )


def got(client: Client, tensor: Tensor) -> np.ndarray:
    values = np.empty(tensor.ne[0], np.float32)
    client.get_tensor(tensor, memoryview(values).cast("B"))
    return values


def assert_dropped(client: Client) -> None:
    with pytest.raises(ConnectionLost):
        client.memory()


def test_server_describes_its_device(client: Client) -> None:
    assert client.device_count() == 1
    assert client.alignment() % 32 == 0
    assert client.max_size() > 1 << 30
    free, total = client.memory()
    assert 0 < free <= total


def test_tensor_comes_back_as_it_was_sent(client: Client) -> None:
    values = np.random.default_rng(1).standard_normal(5 * MIB).astype(np.float32)
    tensor = placed(client, values.size)
    client.set_tensor(tensor, memoryview(values))
    assert np.array_equal(got(client, tensor), values)


def test_part_of_a_tensor_is_written_at_its_offset(client: Client) -> None:
    tensor = placed(client, 8)
    client.set_tensor(tensor, np.float32([7, 9]).tobytes(), offset=12)
    assert got(client, tensor).tolist() == [0, 0, 0, 7, 9, 0, 0, 0]


def test_buffer_is_zero_then_cleared_then_freed(client: Client) -> None:
    tensor = placed(client, 1000)
    assert not got(client, tensor).any()
    client.clear(tensor.buffer, 255)
    assert np.isnan(got(client, tensor)).all()
    client.free(tensor.buffer)
    with pytest.raises(ConnectionLost):
        client.base(tensor.buffer)


def test_tensor_is_copied_on_the_server(client: Client) -> None:
    source, target = placed(client, 16), placed(client, 16, at=4)
    client.set_tensor(source, np.arange(16, dtype=np.float32).tobytes())
    assert client.copy_tensor(source, target)
    assert got(client, target).tolist() == list(range(16))


def test_memset_sets_a_range(endpoint: Endpoint) -> None:
    with connect(endpoint, NEWEST, timeout=20) as client:
        tensor = placed(client, 4)
        client.memset_tensor(tensor, 0, size=16)
        client.memset_tensor(tensor, 255, size=4, offset=8)
        assert np.isnan(got(client, tensor)).tolist() == [False, False, True, False]
    with (
        connect(endpoint, V3_6_1, timeout=20) as client,
        pytest.raises(LocalProtocolError, match="no MEMSET_TENSOR"),
    ):
        client.memset_tensor(placed(client, 4), 0, size=4)


def test_alloc_size_and_init_tensor_answer(client: Client) -> None:
    tensor = placed(client, 100)
    assert client.alloc_size(tensor, (None,)) >= tensor.nbytes
    client.init_tensor(tensor)
    assert client.alignment()


def squares(client: Client) -> tuple[Tensor, Graph]:
    x = placed(client, 8)
    y = placed(client, 8)._replace(id=2, op=Op.SQR, src=(1,) + (0,) * 9)
    client.set_tensor(x, np.arange(8, dtype=np.float32).tobytes())
    return x, Graph.of([x, y], [2])


def test_graph_is_computed_and_computed_again(client: Client) -> None:
    x, graph = squares(client)
    y = graph.tensors[2]
    client.compute(graph)
    assert got(client, y).tolist() == [n * n for n in range(8)]
    client.set_tensor(x, np.full(8, 3, np.float32).tobytes())
    if Command.GRAPH_RECOMPUTE in client.dialect.commands:
        client.recompute()
        assert got(client, y).tolist() == [9] * 8
    client.compute(graph)
    assert got(client, y).tolist() == [9] * 8


def test_server_reports_which_nodes_it_supports() -> None:
    with (
        running(dialects=(V7_0_1,)) as endpoint,
        connect(endpoint, timeout=20) as client,
    ):
        x = placed(client, 8)
        node = x._replace(id=2, op=Op.SQR)
        assert client.supports(node, (x,))
        assert not client.supports(node._replace(op=Op.MAP_CUSTOM1), (x,))
        assert not client.supports(node, ())
        assert not client.supports(node._replace(ne=(4, 1, 1, 1)), (x,))
        assert client.memory()


def test_recompute_without_a_graph_ends_the_session(client: Client) -> None:
    if Command.GRAPH_RECOMPUTE not in client.dialect.commands:
        pytest.skip("the version has no GRAPH_RECOMPUTE")
    client.recompute()
    assert_dropped(client)


def test_freeing_a_buffer_drops_the_programs(client: Client) -> None:
    _, graph = squares(client)
    client.compute(graph)
    client.free(graph.tensors[1].buffer)
    if Command.GRAPH_RECOMPUTE in client.dialect.commands:
        client.recompute()
        assert_dropped(client)


def test_device_that_does_not_exist_ends_the_session(client: Client) -> None:
    if "device" not in client.dialect.optional:
        pytest.skip("the version has one device only")
    with pytest.raises(ConnectionLost):
        client.memory(device=1)


def test_allocation_beyond_all_memory_is_refused_and_survived(client: Client) -> None:
    with pytest.raises(OutOfMemory):
        client.allocate(1 << 60)
    assert client.memory().free


def test_write_past_the_buffer_ends_only_that_session(client: Client) -> None:
    tensor = placed(client, 8)
    with connect(client.endpoint, timeout=20) as bystander:
        kept = placed(bystander, 8)
        bystander.set_tensor(kept, bytes([64] * 32))
        with suppress(ConnectionLost):  # in 1.x it has a reply
            client.set_tensor(tensor, bytes(36))
        assert_dropped(client)
        assert got(bystander, kept).view(np.uint8).tolist() == [64] * 32


def test_sessions_do_not_see_each_others_buffers(client: Client) -> None:
    with connect(client.endpoint, timeout=20) as other:
        theirs = other.allocate(1 << 12)
        for _ in range(3):
            other.allocate(1 << 12)
        mine = client.allocate(16)
        stranger = max(theirs + (1 << 21), mine + (1 << 21))
        with pytest.raises(ConnectionLost):
            client.base(stranger)


def test_many_clients_are_served_at_once(endpoint: Endpoint) -> None:
    clients = [connect(endpoint, timeout=20) for _ in range(50)]
    tensors = [placed(client, 4) for client in clients]
    for i, (client, tensor) in enumerate(zip(clients, tensors, strict=True)):
        client.set_tensor(tensor, np.full(4, i, np.float32).tobytes())
    for i, (client, tensor) in enumerate(zip(clients, tensors, strict=True)):
        assert got(client, tensor).tolist() == [i] * 4
        client.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x0e",
        struct.pack("<BQ", 14, 0),
        struct.pack("<BQ", 14, 24) + bytes(10),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack("<BQ", 14, 0) + struct.pack("<BQI", 1, 4, 9),
    ],
    ids=["nothing", "a byte", "hello", "half a hello", "http", "no such device"],
)
def test_server_survives_clients_that_close_or_send_garbage(
    endpoint: Endpoint, sent: bytes
) -> None:
    with socket.create_connection(endpoint) as sock:
        sock.sendall(sent)
    with connect(endpoint, timeout=20) as client:
        assert client.device_count() == 1


def test_memory_of_a_client_that_vanishes_is_freed() -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    with running(device) as endpoint:
        client = connect(endpoint, timeout=20)
        tensor = placed(client, 16 * MIB)
        data = bytes(tensor.nbytes)
        head, data = client._connection.request(
            SetTensor(tensor=tensor, offset=0, size=len(data), data=data)
        )
        client._stream.send([head, data[:MIB]])
        reset(client._stream._socket)  # in the middle of the data
        wait_until(lambda: not device._handed_out)


def test_client_detects_the_version(endpoint: Endpoint) -> None:
    with connect(endpoint, timeout=20) as client:
        assert client.version == NEWEST.version


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: str(d.version))
def test_client_detects_the_only_version_of_a_server(dialect: Dialect) -> None:
    with (
        running(dialects=(dialect,)) as endpoint,
        connect(endpoint, timeout=20) as client,
    ):
        assert client.dialect.version == dialect.version
        assert client.device_count() == 1


def test_version_that_the_server_lacks_is_an_error() -> None:
    with (
        running(dialects=(V3_6_1,)) as endpoint,
        pytest.raises(ConnectionLost, match="HELLO"),
    ):
        connect(endpoint, NEWEST, timeout=20)
    other = replace(V3_6_1, version=V3_6_1.version._replace(minor=9))
    with (
        running(dialects=(other,)) as endpoint,
        pytest.raises(VersionMismatch, match=r"speaks protocol 3\.9\.1"),
    ):
        connect(endpoint, timeout=20)


def test_two_devices_have_their_own_buffers() -> None:
    devices = CpuDevice(threads=1), CpuDevice(threads=1)
    with running(*devices) as endpoint, connect(endpoint, timeout=20) as client:
        assert client.device_count() == 2
        _, graph = squares(client)
        client.compute(graph, device=0)
        assert client.device_count() == 2
        client.compute(graph, device=1)
        assert_dropped(client)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_server_listens_on_addresses_of_every_kind(host: str) -> None:
    with running(host=host) as endpoint, connect(endpoint, timeout=20) as client:
        assert client.device_count() == 1


def test_port_in_use_is_refused_with_advice(endpoint: Endpoint) -> None:
    with pytest.raises(BindError, match="--port"):
        Server(ServerSettings(endpoint, []))


def test_refusal_is_logged_in_one_line(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), connect(endpoint, timeout=20) as client:
        tensor = placed(client, 8)
        client.set_tensor(tensor, bytes(40))
        assert_dropped(client)
    (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "SET_TENSOR: tensor 'x': bytes 0 to 40" in record.getMessage()
    assert "\n" not in record.getMessage()
    assert record.command == "SET_TENSOR"  # type: ignore[attr-defined]


def test_client_that_only_queries_is_not_logged(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), connect(endpoint, timeout=20) as client:
        client.memory()
    assert caplog.records == []


def test_stop_ends_idle_sessions() -> None:
    with running() as endpoint:
        client = connect(endpoint, timeout=20)
    assert_dropped(client)
    client.close()


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    with running() as endpoint:
        for _ in range(20):
            connect(endpoint, timeout=20).close()
    assert threading.active_count() == before
