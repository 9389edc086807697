from __future__ import annotations

import socket
import struct
import threading

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.net.transport import endpoint_of, listen
from ggrpc.engine.wire.dialects import V7_0_1, V8_0_0
from ggrpc.errors import (
    Cancelled,
    ConnectError,
    ConnectionLost,
    RemoteProtocolError,
    TransportTimeout,
    VersionMismatch,
)
from tests.support.paths import NEWEST
from tests.support.processes import free_port, native_serving

WELCOME = struct.pack("<QBBBB24x", 28, 7, 0, 0, 0)


@pytest.fixture
def scripted():  # type: ignore[no-untyped-def]
    """A server that sends given bytes to each client, and then does nothing."""
    (listener,) = listen(Endpoint("127.0.0.1", 0))
    listener.setblocking(True)
    script: list[bytes] = []
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            held.append(sock)
            if script:
                sock.sendall(script.pop(0))
            else:
                sock.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield endpoint_of(listener), script
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for sock in held:
        sock.close()


def test_server_that_never_answers_times_out(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(WELCOME)
    with connect(endpoint, timeout=0.2) as client, pytest.raises(TransportTimeout):
        client.memory()


def test_call_after_one_that_timed_out_fails(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(WELCOME)
    with connect(endpoint, timeout=0.2) as client:
        with pytest.raises(TransportTimeout):
            client.memory()
        with pytest.raises(
            Cancelled
        ):  # and a late reply is not taken for that of a later request
            client.memory()


def test_cancel_interrupts_a_call_in_another_thread(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(WELCOME)
    with connect(endpoint, timeout=60) as client:
        timer = threading.Timer(0.1, client.cancel)
        timer.start()
        with pytest.raises(Cancelled, match=f"closed the connection to {endpoint}"):
            client.memory()
        timer.join()
        with pytest.raises(Cancelled):
            client.memory()


def test_call_after_close_is_cancelled(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(WELCOME)
    with connect(endpoint, timeout=60) as client:
        pass
    with pytest.raises(Cancelled):
        client.alignment()


def test_server_that_drops_every_hello_is_a_lost_connection(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, _ = scripted
    with pytest.raises(ConnectionLost):
        connect(endpoint, timeout=5)


def test_server_of_an_unknown_version_is_a_mismatch(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(struct.pack("<QBBBB24x", 28, 6, 1, 2, 0))
    with pytest.raises(VersionMismatch, match=r"6\.1\.2; ggrpc speaks 1\.0\.0"):
        connect(endpoint, timeout=5)


def test_server_of_another_version_than_asked_is_a_mismatch(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(WELCOME)
    with pytest.raises(VersionMismatch, match=r"7\.0\.0, not 8\.0\.0: leave out"):
        connect(endpoint, V8_0_0, timeout=5)


def test_client_that_gives_up_before_an_answer_resets_the_connection() -> None:
    """llama.cpp's server dies of SIGPIPE if it replies to a closed connection."""
    (listener,) = listen(Endpoint("127.0.0.1", 0))
    with listener:
        with pytest.raises(TransportTimeout):
            connect(endpoint_of(listener), timeout=0.1)
        listener.setblocking(True)
        sock, _ = listener.accept()
        with sock:
            assert sock.recv(100)[:1] == b"\x0e"
            with pytest.raises(ConnectionResetError):
                sock.recv(100)


def test_patch_of_a_version_only_counts_ops(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(struct.pack("<QBBBB24x", 28, 7, 0, 3, 0))
    with connect(endpoint, timeout=5) as client:
        assert client.version == (7, 0, 3)
        assert client.dialect is V7_0_1


def test_something_else_than_a_server_is_a_protocol_error(scripted) -> None:  # type: ignore[no-untyped-def]
    endpoint, script = scripted
    script.append(b"SSH-2.0-OpenSSH_9.2\r\n")
    with pytest.raises(RemoteProtocolError, match="speaks SSH"):
        connect(endpoint, timeout=5)


def test_refused_connection_is_a_connect_error() -> None:
    with pytest.raises(ConnectError):
        connect(Endpoint("127.0.0.1", free_port()), timeout=5)


@pytest.mark.parametrize(
    ("release", "version"),
    [(NEWEST, (8, 0, 0)), ("0.3.36", (7, 0, 0)), ("0.3.17", (3, 6, 1))],
)
def test_native_server_is_understood(release, version) -> None:  # type: ignore[no-untyped-def]
    with (
        native_serving(release, "--devices", "2") as endpoint,
        connect(endpoint, timeout=10) as client,
    ):
        assert client.version == version
        assert client.device_count() == 2
        assert client.alignment(1) == 32
        assert client.memory(1).total > 1 << 28
