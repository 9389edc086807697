"""A live server with small limits, and clients that exceed them."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack, suppress

import pytest

from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.wire import messages as m
from ggrpc.errors import ConnectionLost, OutOfMemory
from ggrpc.tensor import Tensor
from tests.support.clients import (
    HELLO,
    WELCOME_BYTES,
    byte_vector,
    closed_while_dripping,
    closed_within,
    hello,
)
from tests.support.servers import running
from tests.support.waiting import wait_until

MIB = 1 << 20


def set_tensor_of(client: Client, tensor: Tensor) -> tuple[m.Bytes, m.Bytes]:
    """The header and the data of a SET_TENSOR that is not sent."""
    data = bytes(tensor.nbytes)
    request = m.SetTensor(tensor=tensor, offset=0, size=len(data), data=data)
    head, data = client._connection.request(request)
    return head, data


def test_client_gets_no_more_memory_than_its_limit() -> None:
    with (
        running(limits=Limits(client_memory=8 * MIB)) as endpoint,
        connect(endpoint, timeout=20) as one,
        connect(endpoint, timeout=20) as two,
    ):
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
            wait_until(lambda: three.memory().free == 8 * MIB)


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
        sock.sendall(struct.pack("<BQIQ", 10, 12 + len(graph), 0, 1) + graph)
        assert closed_within(sock, 10)
    assert "GRAPH_COMPUTE: a graph of 4 nodes exceeds --max-nodes (3)" in caplog.text


def test_request_that_is_too_long_ends_the_session_at_its_head(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(limits=Limits(message=MIB)) as endpoint, hello(endpoint) as sock:
        sock.sendall(struct.pack("<BQ", 10, 2 * MIB))
        assert closed_within(sock, 10)
    assert f"of {2 * MIB} bytes exceeds --max-message ({MIB})" in caplog.text


@pytest.mark.parametrize("sent", [b"", b"\x0e", HELLO[:20]], ids=len)
def test_hello_that_takes_too_long_ends_the_connection(sent: bytes) -> None:
    with (
        running(limits=Limits(hello_seconds=0.2)) as endpoint,
        socket.create_connection(endpoint) as sock,
    ):
        sock.sendall(sent)
        assert closed_within(sock, 10)


def test_hello_byte_by_byte_takes_no_longer() -> None:
    with (
        running(limits=Limits(hello_seconds=0.4)) as endpoint,
        socket.create_connection(endpoint) as sock,
    ):
        assert closed_while_dripping(sock, HELLO)


@pytest.mark.parametrize(
    "begun", [b"\x0a", struct.pack("<BQ", 10, 1000) + bytes(100)], ids=len
)
def test_request_that_stalls_ends_the_session(
    begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        running(limits=Limits(message_seconds=0.2)) as endpoint,
        hello(endpoint) as sock,
    ):
        assert not closed_within(sock, 0.5)  # a pause between two requests is allowed
        sock.sendall(begun)
        assert closed_within(sock, 10)
    assert "took longer than 0.2 s; increase --message-timeout" in caplog.text


def test_data_that_stalls_ends_the_session() -> None:
    with (
        running(limits=Limits(message_seconds=0.2)) as endpoint,
        connect(endpoint, timeout=20) as client,
    ):
        head, data = set_tensor_of(client, byte_vector(client, MIB))
        client._stream.send([head, data[:1000]])
        assert closed_within(client._stream._socket, 10)


def test_data_byte_by_byte_ends_the_session() -> None:
    with (
        running(limits=Limits(message_seconds=0.4)) as endpoint,
        connect(endpoint, timeout=20) as client,
    ):
        head, data = set_tensor_of(client, byte_vector(client, MIB))
        client._stream.send([head])
        assert closed_while_dripping(client._stream._socket, bytes(data[:100]))


def test_reply_that_is_not_read_ends_the_session() -> None:
    limits = Limits(memory=64 * MIB, message_seconds=0.3)
    with (
        running(limits=limits) as endpoint,
        connect(endpoint, timeout=20) as client,
        connect(endpoint, timeout=20) as other,
    ):
        tensor = byte_vector(client, 64 * MIB)
        request = m.GetTensor(tensor=tensor, offset=0, size=tensor.nbytes)
        client._stream.send(client._connection.request(request))
        wait_until(lambda: other.memory().free == 64 * MIB)


def test_idle_client_is_closed_with_an_idle_limit() -> None:
    limits = Limits(idle_seconds=0.3)
    with running(limits=limits) as endpoint, hello(endpoint) as sock:
        assert closed_within(sock, 10)


def test_idle_client_is_not_closed_without_an_idle_limit() -> None:
    limits = Limits(message_seconds=0.1)
    with running(limits=limits) as endpoint, hello(endpoint) as sock:
        assert not closed_within(sock, 0.5)


def test_client_over_the_limit_replaces_the_longest_idle() -> None:
    with running(limits=Limits(clients=3)) as endpoint, ExitStack() as stack:
        owner = stack.enter_context(connect(endpoint, timeout=20))
        owner.allocate(100)
        silent, recent = [stack.enter_context(hello(endpoint)) for _ in range(2)]
        newcomer = stack.enter_context(connect(endpoint, timeout=20))
        assert newcomer.memory()
        assert closed_within(silent, 10)
        assert not closed_within(recent, 0.1)
        assert owner.memory()


def test_client_over_the_limit_is_refused_if_all_hold_memory(
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
        assert len(sock.recv(WELCOME_BYTES, socket.MSG_WAITALL)) == WELCOME_BYTES
    assert "--max-clients-per-address allows" in caplog.text


def test_arriving_requests_are_limited_together(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ggrpc.engine.server.quotas.MESSAGES", 2 * MIB)
    with running(limits=Limits(message=2 * MIB)) as endpoint, ExitStack() as stack:
        begun = struct.pack("<BQ", 10, 2 * MIB - 100) + bytes(2 * MIB - 1000)
        socks = [stack.enter_context(hello(endpoint)) for _ in range(2)]
        for sock in socks:
            with suppress(ConnectionError):
                sock.sendall(begun)
        message = "would exceed the limit of all arriving requests"
        wait_until(lambda: message in caplog.text)
    with (
        running(limits=Limits(message=2 * MIB)) as endpoint,
        connect(endpoint, timeout=20) as client,
    ):
        assert client.memory()
