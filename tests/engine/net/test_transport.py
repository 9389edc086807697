from __future__ import annotations

import socket
import struct
import threading
import time

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net import transport
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.transport import Stream, accept, endpoint_of, listen
from ggrpc.errors import BindError, ConnectError, ConnectionLost, TransportTimeout
from tests.support.processes import free_port


@pytest.fixture
def pair():  # type: ignore[no-untyped-def]
    """A stream and the plain socket at its other end."""
    (listener,) = listen(Endpoint("127.0.0.1", 0))
    with socket.create_connection(endpoint_of(listener)) as peer:
        stream = accept(listener)
        assert stream is not None
        yield stream, peer
        stream.close()
    listener.close()


def test_bytes_go_both_ways(pair) -> None:  # type: ignore[no-untyped-def]
    stream, peer = pair
    stream.send([b"ab", bytearray(b"cd"), memoryview(b"ef"), b""])
    assert peer.recv(6, socket.MSG_WAITALL) == b"abcdef"
    peer.sendall(b"xyz")
    place = bytearray(3)
    stream.receive_exactly(memoryview(place))
    assert place == b"xyz"


def test_large_pieces_go_in_calls_of_bounded_size(pair, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(transport, "MAX_AT_ONCE", 1000)
    stream, peer = pair
    data = bytes(range(256)) * 20000
    sender = threading.Thread(target=stream.send, args=([b"head", data, b"tail"],))
    sender.start()
    place = bytearray()
    while len(place) < len(data) + 8:
        place += peer.recv(1 << 16)
    sender.join()
    assert place == b"head" + data + b"tail"


def test_peer_that_closes_early_is_a_lost_connection(pair) -> None:  # type: ignore[no-untyped-def]
    stream, peer = pair
    peer.sendall(b"xy")
    peer.close()
    with pytest.raises(ConnectionLost, match="in the middle of a message"):
        stream.receive_exactly(memoryview(bytearray(3)))
    assert stream.receive(memoryview(bytearray(3))) == 0


def test_reset_is_a_lost_connection(pair) -> None:  # type: ignore[no-untyped-def]
    stream, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:\d+ broke: .*reset"):
        stream.receive(memoryview(bytearray(3)))


def test_silent_peer_runs_into_the_deadline(pair) -> None:  # type: ignore[no-untyped-def]
    stream, _ = pair
    with pytest.raises(TransportTimeout, match=r"longer than 0\.05 s.*--timeout"):
        stream.receive(memoryview(bytearray(3)), Deadline(0.05))


def test_input_is_seen_without_a_wait(pair) -> None:  # type: ignore[no-untyped-def]
    stream, peer = pair
    peer.sendall(b"xy")
    stream.receive_exactly(memoryview(bytearray(1)), Deadline(60))
    assert stream.has_input
    assert stream.has_input
    stream.receive_exactly(memoryview(bytearray(1)), Deadline(60))
    start = time.monotonic()
    assert not stream.has_input
    assert time.monotonic() - start < 30
    peer.close()
    assert not stream.has_input


def test_shut_wakes_a_receiver(pair) -> None:  # type: ignore[no-untyped-def]
    stream, _ = pair
    got: list[int] = []
    receiver = threading.Thread(
        target=lambda: got.append(stream.receive(memoryview(bytearray(3))))
    )
    receiver.start()
    stream.shut()
    receiver.join(5)
    assert got == [0]
    stream.shut()


def test_refused_connection_says_what_to_check() -> None:
    with pytest.raises(ConnectError, match="is the server running there"):
        Stream.connect(Endpoint("127.0.0.1", free_port()))


def test_name_that_does_not_exist_is_a_connect_error() -> None:
    with pytest.raises(ConnectError, match=r"nowhere\.invalid:50052"):
        Stream.connect(Endpoint("nowhere.invalid"))
    with pytest.raises(BindError, match="--host"):
        listen(Endpoint("nowhere.invalid"))


def test_accept_of_nothing_is_none() -> None:
    (listener,) = listen(Endpoint("127.0.0.1", 0))
    assert accept(listener) is None
    listener.close()


def test_failed_bind_keeps_no_socket() -> None:
    (taken,) = listen(Endpoint("127.0.0.1", 0))
    with pytest.raises(BindError, match="--port"):
        listen(endpoint_of(taken))
    taken.close()


def test_address_that_the_machine_lacks_is_left_out(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    v4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    absent = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [absent, v4])
    (listener,) = listen(Endpoint("localhost", 0))
    assert endpoint_of(listener).host == "127.0.0.1"
    listener.close()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [absent])
    with pytest.raises(BindError, match="--host"):
        listen(Endpoint("localhost", 0))
