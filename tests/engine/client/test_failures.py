"""A client's errors about each kind of peer that does not reply as a server does."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from pathlib import Path

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.net.tls import TlsStream, server_context
from ggrpc.engine.server.negotiation import AdaptiveNegotiator
from ggrpc.errors import (
    ConnectionLost,
    RemoteProtocolError,
    TransportError,
    TransportTimeout,
)
from tests.support.certificates import make_certificates
from tests.support.clients import computes
from tests.support.paths import NEWEST, peer_python
from tests.support.peers import (
    WELCOME,
    Talk,
    drip,
    http_server,
    peer,
    until_closed,
)
from tests.support.processes import native_serving
from tests.support.servers import running
from tests.support.waiting import wait_until


def greet_and_fall_silent(connection: socket.socket) -> None:
    connection.recv(1 << 10)
    connection.sendall(WELCOME)
    until_closed(connection)


@pytest.mark.parametrize(
    ("talk", "told"),
    [
        (until_closed, r"did not answer within 0\.5 s: it is busy with another client"),
        (drip, r"sent only a part of its answer to HELLO within 0\.5 s"),
    ],
)
def test_silence_is_told_within_the_timeout(talk: Talk, told: str) -> None:
    with peer(talk) as endpoint:
        start = time.monotonic()
        with pytest.raises(TransportTimeout, match=told) as raised:
            connect(endpoint, timeout=0.5)
        assert time.monotonic() - start < 0.8
    assert "increase" not in str(raised.value)
    assert raised.value.endpoint == str(endpoint)


def test_silence_after_hello_is_told_with_the_request() -> None:
    with peer(greet_and_fall_silent) as endpoint:
        client = connect(endpoint, timeout=0.3)
        told = r"did not answer GET_ALIGNMENT within 0\.3 s: .*increase --timeout"
        with pytest.raises(TransportTimeout, match=told):
            client.alignment()


def test_listener_that_never_accepts_is_busy_or_hung() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(TransportTimeout, match="busy with another client"),
    ):
        connect(Endpoint(*listener.getsockname()), timeout=0.3)


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/1.1"])
def test_http_server_that_waits_for_a_line_is_recognized(version: str) -> None:
    with (
        http_server(version) as endpoint,
        pytest.raises(RemoteProtocolError, match="speaks HTTP, so it is not"),
    ):
        connect(endpoint, timeout=1)


@pytest.mark.parametrize(
    ("greeting", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP"),
        (b"SSH-2.0-x\r\n", "speaks SSH"),
        (b"+OK\r\n", r"speaks a text protocol \('\+OK'\)"),
        (b"\x15\3\1\0\2\2\x46", "speaks TLS, add --tls"),
    ],
)
@pytest.mark.parametrize("closes", [False, True])
def test_peer_that_says_what_it_is_is_believed(
    greeting: bytes, told: str, closes: bool
) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(greeting)
        if not closes:
            until_closed(connection)

    with peer(talk) as endpoint, pytest.raises(RemoteProtocolError, match=told):
        connect(endpoint, timeout=1)


def test_tls_server_that_just_hangs_up_is_recognized(tmp_path: Path) -> None:
    files = make_certificates(tmp_path)
    for client_ca in (None, files.ca):
        context = server_context(files.server, None, client_ca)

        def shake_hands(connection: socket.socket, context=context) -> None:  # type: ignore[no-untyped-def]
            copy = connection.dup()
            stream = TlsStream(copy, Endpoint("client", 1), context)
            with contextlib.suppress(TransportError):
                stream.handshake()
            stream.close()

        with (
            peer(shake_hands) as endpoint,
            pytest.raises(RemoteProtocolError, match="speaks TLS, add --tls"),
        ):
            connect(endpoint, timeout=5)


def test_peer_that_hangs_up_is_no_tls_server() -> None:
    told = "closed the connection instead of answering HELLO; it does not admit"
    with (
        peer(lambda connection: connection.recv(1)) as endpoint,
        pytest.raises(ConnectionLost, match=told),
    ):
        connect(endpoint, timeout=5)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\3\1" + bytes(60)])
def test_our_server_says_what_its_client_speaks(
    first: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with running() as endpoint, socket.create_connection(endpoint) as sock:
        sock.sendall(first)
        with contextlib.suppress(ConnectionError):
            assert not sock.recv(1)
    assert "the client speaks " in caplog.text
    assert "COMM_FREE" not in caplog.text


def test_busy_native_server_keeps_its_client() -> None:
    peer_python(NEWEST)
    with native_serving(NEWEST) as endpoint, connect(endpoint, timeout=20) as client:
        for _ in range(2):
            with pytest.raises(TransportTimeout, match="busy with another client"):
                connect(endpoint, timeout=0.5)
        assert computes(client)
        client.close()
        with connect(endpoint, timeout=20) as later:
            assert computes(later)


def test_client_that_is_lost_tells_of_its_loss_again() -> None:
    with peer(greet_and_fall_silent) as endpoint, connect(endpoint) as client:
        client._stream.shut()
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="of answering GET_ALIGNMENT"):
                client.alignment()


def test_interrupt_between_two_hellos_rejects_no_version(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    caplog.set_level(logging.INFO)
    monkeypatch.setattr("ggrpc.engine.client.client.introduction", interrupted)
    with running(negotiator=AdaptiveNegotiator()) as endpoint:
        with pytest.raises(KeyboardInterrupt):
            connect(endpoint, timeout=20)
        wait_until(lambda: "Connection reset by peer" in caplog.text)
    assert "hung up" not in caplog.text
