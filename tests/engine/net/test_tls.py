from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import ggrpc
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.proxy import Proxy
from ggrpc.engine.net.tls import (
    TlsStream,
    client_context,
    server_context,
)
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.negotiation import AdaptiveNegotiator
from ggrpc.errors import (
    ConfigError,
    ConnectError,
    ConnectionLost,
    FileError,
    RemoteProtocolError,
)
from tests.support.certificates import Certificates, make_certificates
from tests.support.clients import (
    HELLO,
    WELCOME_BYTES,
    byte_vector,
    closed_within,
    computes,
)
from tests.support.processes import free_port
from tests.support.servers import running
from tests.support.waiting import wait_until

MIB = 1 << 20


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(files: Certificates) -> Iterator[Endpoint]:
    """A server that uses TLS and accepts every client."""
    with running(tls=server_context(files.server, None, None)) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def mutual(files: Certificates) -> Iterator[Endpoint]:
    """A server that requires client certificates."""
    with running(tls=server_context(files.server, None, files.ca)) as endpoint:
        yield endpoint


def test_client_computes_over_tls(server: Endpoint, files: Certificates) -> None:
    with connect(server, timeout=20, tls=client_context(files.ca)) as client:
        assert computes(client)


def test_library_connects_over_tls(server: Endpoint, files: Certificates) -> None:
    context = client_context(files.ca)
    with ggrpc.connect(server, timeout=20, tls=context) as node:
        assert node.device().memory().total > 0
    with ggrpc.Registry(timeout=20, tls=context) as registry:
        assert registry.add_server(server)


def test_large_tensors_go_both_ways_over_tls(
    server: Endpoint, files: Certificates
) -> None:
    with connect(server, timeout=20, tls=client_context(files.ca)) as client:
        tensor = byte_vector(client, 5 * MIB + 3)
        sent = np.random.default_rng(1).bytes(tensor.nbytes)
        client.set_tensor(tensor, sent)
        back = bytearray(tensor.nbytes)
        client.get_tensor(tensor, memoryview(back))
        assert back == sent


def test_server_of_an_unknown_ca_is_not_trusted(server: Endpoint) -> None:
    with pytest.raises(ConnectError, match=r"issuer.*name its CA with --tls-ca"):
        connect(server, timeout=20, tls=client_context())


def test_server_of_another_name_is_not_trusted(files: Certificates) -> None:
    context = server_context(files.server, None, None)
    with (
        running(tls=context, host="127.0.0.2") as endpoint,
        pytest.raises(ConnectError, match=r"127\.0\.0\.2"),
    ):
        connect(endpoint, timeout=20, tls=client_context(files.ca))


def test_client_without_a_trusted_certificate_is_refused(
    mutual: Endpoint, files: Certificates
) -> None:
    known = client_context(files.ca, files.client)
    with connect(mutual, timeout=20, tls=known) as client:
        assert client.device_count() == 1
    for certificate in (None, files.stranger):
        unknown = client_context(files.ca, certificate)
        with pytest.raises((ConnectionLost, ConnectError)):
            connect(mutual, timeout=20, tls=unknown)


def test_client_without_tls_is_told_to_use_it(server: Endpoint) -> None:
    with pytest.raises(RemoteProtocolError, match="speaks TLS, add --tls"):
        connect(server, timeout=20)


def test_handshake_that_never_begins_ends_the_connection(files: Certificates) -> None:
    context = server_context(files.server, None, None)
    with running(tls=context, limits=Limits(hello_seconds=0.2)) as endpoint:
        with socket.create_connection(endpoint) as sock:
            assert closed_within(sock, 10)
        connect(endpoint, timeout=20, tls=client_context(files.ca)).close()


def test_request_that_stalls_ends_the_session_over_tls(files: Certificates) -> None:
    context = server_context(files.server, None, None)
    ours = client_context(files.ca)
    limits = Limits(message_seconds=0.3)
    with (
        running(tls=context, limits=limits) as endpoint,
        connect(endpoint, timeout=20, tls=ours) as client,
    ):
        client._stream.send([b"\x0a"])
        place = memoryview(bytearray(1))
        assert client._stream.receive(place, Deadline(10)) == 0


def test_tls_1_2_is_the_oldest_version(server: Endpoint, files: Certificates) -> None:
    context = client_context(files.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    TlsStream.connect_with(context, server, Deadline(20)).close()
    assert server_context(files.server, None, None).minimum_version >= (
        ssl.TLSVersion.TLSv1_2
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda here, f: server_context(f.ca, None, None), "no certificate and key in"),
        (lambda here, f: server_context("/no/such", None, None), "No such file"),
        (lambda here, f: server_context(f.server, "/no/such", None), "No such file"),
        (lambda here, f: server_context(f.server, None, here), "no CA in"),
        (lambda here, f: client_context("/no/such"), "no CA in /no/such: No such"),
    ],
)
def test_file_that_cannot_be_used_is_a_file_error(  # type: ignore[no-untyped-def]
    make, message: str, files: Certificates, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("nothing")
    with pytest.raises(FileError, match=message):
        make(str(empty), files)


def test_key_without_a_certificate_is_a_config_error(files: Certificates) -> None:
    with pytest.raises(ConfigError, match="needs --tls-cert"):
        client_context(files.ca, None, files.client)


def test_key_with_a_password_is_a_file_error(
    files: Certificates, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    text = Path(files.server).read_bytes()
    key = serialization.load_pem_private_key(text, None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    path = tmp_path / "locked.pem"
    path.write_bytes(locked)
    with pytest.raises(FileError, match="has a password"):
        server_context(files.server, str(path), None)


@pytest.fixture
def tunnel(server: Endpoint, files: Certificates) -> Iterator[Endpoint]:
    """A plain port to the server."""
    yield from tunnel_to(server, files)


def tunnel_to(server: Endpoint, files: Certificates) -> Iterator[Endpoint]:
    context = client_context(files.ca)
    running = Proxy(
        Endpoint("127.0.0.1", 0),
        server,
        lambda: TlsStream.connect_with(context, server, Deadline(10)),
    )
    thread = threading.Thread(target=running.run)
    thread.start()
    yield running.endpoints[0]
    running.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_plain_clients_compute_through_a_tunnel(tunnel: Endpoint) -> None:
    clients = [connect(tunnel, timeout=20) for _ in range(10)]
    for client in clients:
        assert computes(client)
    tensor = byte_vector(clients[0], 3 * MIB)
    sent = np.random.default_rng(2).bytes(tensor.nbytes)
    clients[0].set_tensor(tensor, sent)
    back = bytearray(tensor.nbytes)
    clients[0].get_tensor(tensor, memoryview(back))
    assert back == sent
    for client in clients:
        client.close()


def test_end_of_one_half_goes_through_a_tunnel(tunnel: Endpoint) -> None:
    with connect(tunnel, timeout=20) as client:
        sock = client._stream._socket
        client._stream.send([b"\x0f" + bytes(8)])  # DEVICE_COUNT
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(12, socket.MSG_WAITALL) == b"\x04" + bytes(7) + b"\1\0\0\0"
        assert sock.recv(1) == b""


def test_tunnel_that_stops_ends_its_connections(
    server: Endpoint, files: Certificates
) -> None:
    tunnels = tunnel_to(server, files)
    client = connect(next(tunnels), timeout=20)
    next(tunnels, None)
    with pytest.raises(ConnectionLost):
        client.memory()
    client.close()


def test_server_that_is_gone_ends_one_connection_of_a_tunnel(
    files: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    tunnels = tunnel_to(Endpoint("127.0.0.1", free_port()), files)
    endpoint = next(tunnels)
    with pytest.raises(ConnectionLost):
        connect(endpoint, timeout=20)
    next(tunnels, None)
    assert "cannot connect to" in caplog.text


@pytest.mark.parametrize("end", [TlsStream.close, TlsStream.reset])
def test_only_a_client_that_closes_in_order_rejects_the_version(
    files: Certificates, caplog: pytest.LogCaptureFixture, end: Callable[[Stream], None]
) -> None:
    """A reset means that the client gave up; OpenSSL shows it as an end."""
    caplog.set_level(logging.INFO)
    tls, trust = server_context(files.server, None, None), client_context(files.ca)
    with running(tls=tls, negotiator=AdaptiveNegotiator()) as endpoint:
        stream = TlsStream.connect_with(trust, endpoint, Deadline(20, None))
        stream.send([HELLO])
        stream.receive_exactly(memoryview(bytearray(WELCOME_BYTES)))
        end(stream)
        expected = {
            TlsStream.close: "hung up on protocol",
            TlsStream.reset: "broke: Connection reset by peer",
        }
        wait_until(lambda: expected[end] in caplog.text)
    assert ("hung up" in caplog.text) == (end is TlsStream.close)
