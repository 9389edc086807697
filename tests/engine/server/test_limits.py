"""A live server with small limits, and clients that pass them."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import ExitStack

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.wire import messages as m
from ggrpc.errors import ConnectionLost, OutOfMemory
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.servers import running

MIB = 1 << 20
HELLO = struct.pack("<BQ", 14, 24) + bytes(24)


def hello(endpoint: Endpoint) -> socket.socket:
    """A connection that has said HELLO and read the answer."""
    sock = socket.create_connection(endpoint, 20)
    sock.sendall(HELLO)
    assert len(sock.recv(36, socket.MSG_WAITALL)) == 36
    return sock


def closed_within(sock: socket.socket, seconds: float) -> bool:
    """Whether the server ends a connection by itself."""
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def a_tensor(client: Client, size: int) -> Tensor:
    """A tensor of so many bytes, alone in a buffer."""
    buffer, ne = client.allocate(size), (size, 1, 1, 1)
    nb = contiguous_nb(GGMLType.I8, ne)
    return Tensor(1, GGMLType.I8, buffer, ne, nb, data=client.base(buffer))


def set_tensor_of(client: Client, tensor: Tensor) -> tuple[m.Bytes, m.Bytes]:
    """The head and the data of a SET_TENSOR, not sent."""
    data = bytes(tensor.nbytes)
    request = m.SetTensor(tensor=tensor, offset=0, size=len(data), data=data)
    head, data = client._connection.request(request)
    return head, data


def test_client_gets_no_more_memory_than_its_limit() -> None:
    with running(limits=Limits(client_memory=8 * MIB)) as endpoint:
        with connect(endpoint, timeout=20) as one, connect(endpoint, timeout=20) as two:
            first = one.allocate(6 * MIB)
            with pytest.raises(OutOfMemory):
                one.allocate(3 * MIB)
            assert one.memory() == (2 * MIB, 8 * MIB)
            assert two.allocate(6 * MIB)
            one.free(first)
            assert one.memory() == (8 * MIB, 8 * MIB)
            assert one.allocate(8 * MIB)


def test_all_clients_together_get_no_more_than_their_limit() -> None:
    with running(limits=Limits(memory=8 * MIB)) as endpoint:
        with connect(endpoint, timeout=20) as one:
            one.allocate(6 * MIB)
            with connect(endpoint, timeout=20) as two:
                with pytest.raises(OutOfMemory):
                    two.allocate(3 * MIB)
                assert two.memory() == (2 * MIB, 8 * MIB)
                two.allocate(2 * MIB)
                assert one.memory().free == 0
        with connect(endpoint, timeout=20) as three:
            deadline = time.monotonic() + 10
            while three.memory().free < 8 * MIB:
                assert time.monotonic() < deadline


def test_buffers_are_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggrpc.engine.server.quotas.CLIENT_BUFFERS", 3)
    with running() as endpoint, connect(endpoint, timeout=20) as client:
        handles = [client.allocate(0) for _ in range(3)]
        with pytest.raises(OutOfMemory):
            client.allocate(0)
        client.free(handles[0])
        assert client.allocate(0)


def test_graph_of_too_many_nodes_ends_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(limits=Limits(nodes=3)) as endpoint, hello(endpoint) as sock:
        graph = struct.pack("<I", 4) + bytes(32) + struct.pack("<I", 0)
        sock.sendall(struct.pack("<BQI", 10, 4 + len(graph), 0) + graph)
        assert closed_within(sock, 10)
    assert "GRAPH_COMPUTE: a graph of 4 nodes exceeds --max-nodes (3)" in caplog.text


def test_request_that_is_too_long_ends_the_session_at_its_head(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(limits=Limits(message=MIB)) as endpoint, hello(endpoint) as sock:
        sock.sendall(struct.pack("<BQ", 10, 2 * MIB))
        assert closed_within(sock, 10)
    assert f"of {2 * MIB} bytes passes --max-message ({MIB})" in caplog.text


@pytest.mark.parametrize("sent", [b"", b"\x0e", HELLO[:20]], ids=len)
def test_hello_that_takes_too_long_ends_the_connection(sent: bytes) -> None:
    with running(limits=Limits(hello_seconds=0.2)) as endpoint:
        with socket.create_connection(endpoint) as sock:
            sock.sendall(sent)
            assert closed_within(sock, 10)


def test_hello_byte_by_byte_takes_no_longer() -> None:
    with running(limits=Limits(hello_seconds=0.4)) as endpoint:
        with socket.create_connection(endpoint) as sock, pytest.raises(OSError):
            for byte in HELLO:
                sock.sendall(bytes([byte]))
                time.sleep(0.1)


@pytest.mark.parametrize(
    "begun", [b"\x0a", struct.pack("<BQ", 10, 1000) + bytes(100)], ids=len
)
def test_request_that_stalls_ends_the_session(
    begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with running(limits=Limits(message_seconds=0.2)) as endpoint:
        with hello(endpoint) as sock:
            time.sleep(0.5)  # between two requests it may think
            sock.sendall(begun)
            assert closed_within(sock, 10)
    assert "took longer than 0.2 s; increase --message-timeout" in caplog.text


def test_data_that_stalls_ends_the_session() -> None:
    with running(limits=Limits(message_seconds=0.2)) as endpoint:
        with connect(endpoint, timeout=20) as client:
            tensor = a_tensor(client, MIB)
            head, data = set_tensor_of(client, tensor)
            client._stream.send([head, data[:1000]])
            assert closed_within(client._stream._socket, 10)


def test_data_in_drops_ends_the_session() -> None:
    with running(limits=Limits(message_seconds=0.4)) as endpoint:
        with connect(endpoint, timeout=20) as client:
            head, data = set_tensor_of(client, a_tensor(client, MIB))
            client._stream.send([head])
            with pytest.raises(ConnectionLost):
                for _ in range(100):
                    client._stream.send([data[:1]])
                    time.sleep(0.1)


def test_reply_that_nobody_reads_ends_the_session() -> None:
    limits = Limits(memory=64 * MIB, message_seconds=0.3)
    with running(limits=limits) as endpoint:
        with connect(endpoint, timeout=20) as client:
            tensor = a_tensor(client, 64 * MIB)
            request = m.GetTensor(tensor=tensor, offset=0, size=tensor.nbytes)
            client._stream.send(client._connection.request(request))
            with connect(endpoint, timeout=20) as other:
                deadline = time.monotonic() + 20
                while other.memory().free < 64 * MIB:
                    assert time.monotonic() < deadline


def test_silent_client_is_closed_where_that_is_wanted() -> None:
    with running(limits=Limits(idle_seconds=0.3)) as endpoint:
        with hello(endpoint) as sock:
            assert closed_within(sock, 10)


def test_silence_is_allowed_where_nothing_is_said_about_it() -> None:
    with running(limits=Limits(message_seconds=0.1)) as endpoint:
        with hello(endpoint) as sock:
            assert not closed_within(sock, 0.5)


def test_client_too_many_takes_the_place_of_the_one_silent_longest() -> None:
    with running(limits=Limits(clients=3)) as endpoint, ExitStack() as stack:
        owner = stack.enter_context(connect(endpoint, timeout=20))
        owner.allocate(100)
        silent, recent = [stack.enter_context(hello(endpoint)) for _ in range(2)]
        newcomer = stack.enter_context(connect(endpoint, timeout=20))
        assert newcomer.memory()
        assert closed_within(silent, 10)
        assert not closed_within(recent, 0.1)
        assert owner.memory()


def test_client_too_many_is_refused_where_all_hold_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(limits=Limits(clients=2)) as endpoint, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connect(endpoint, timeout=20)).allocate(100)
        with pytest.raises(ConnectionLost):
            connect(endpoint, timeout=20)
    assert "there are as many clients as --max-clients allows" in caplog.text


def test_address_has_a_limit_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    limits = Limits(clients_per_address=1)
    with running(limits=limits, host="127.0.0.1") as endpoint, ExitStack() as stack:
        stack.enter_context(connect(endpoint, timeout=20)).allocate(100)
        with pytest.raises(ConnectionLost):
            connect(endpoint, timeout=20)
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.2", 0))
        sock.connect(endpoint)
        sock.sendall(HELLO)
        assert len(sock.recv(36, socket.MSG_WAITALL)) == 36
    assert "--max-clients-per-address allows" in caplog.text


def test_requests_on_their_way_are_limited_together(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ggrpc.engine.server.quotas.MESSAGES", 2 * MIB)
    with running(limits=Limits(message=2 * MIB)) as endpoint, ExitStack() as stack:
        begun = struct.pack("<BQ", 10, 2 * MIB - 100) + bytes(2 * MIB - 1000)
        socks = [stack.enter_context(hello(endpoint)) for _ in range(2)]
        for sock in socks:
            try:
                sock.sendall(begun)
            except ConnectionError:
                pass
        deadline = time.monotonic() + 20
        while "would exceed the limit of all arriving requests" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with running(limits=Limits(message=2 * MIB)) as endpoint:
        with connect(endpoint, timeout=20) as client:
            assert client.memory()
