"""The errors of both sides for each cause of a failed TLS handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.net.certificate import certificate_of, own_certificate
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.tls import TlsStream, client_context, server_context
from ggrpc.errors import (
    ConfigError,
    ConnectError,
    FileError,
    RemoteProtocolError,
    TransportTimeout,
)
from tests.support.certificates import issue
from tests.support.servers import running


class Authority:
    """Two CAs, and certificates of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cas = {"ours": trustme.CA(), "other": trustme.CA()}
        for name, ca in self._cas.items():
            ca.cert_pem.write_to_path(str(folder / f"{name}.pem"))

    def ca(self, name: str = "ours") -> str:
        return str(self.folder / f"{name}.pem")

    def issue(
        self, *names: str, ca: str = "ours", since: float = -9, until: float = 99
    ) -> str:
        file = self.folder / "issued.pem"
        return issue(self._cas[ca], file, *names, since=since, until=until)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.contextmanager
def serving(context: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[Endpoint]:
    with running(tls=context, host=host) as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("names", "dates", "trusted", "at_client", "at_server"),
    [
        (
            ["127.0.0.1"],
            (-9, -2),
            "ours",
            r"server's certificate expired on \d{4}-\d\d-\d\d: renew it there",
            "client finds the server's certificate expired: renew it",
        ),
        (
            ["127.0.0.1"],
            (2, 9),
            "ours",
            r"is not valid before \d{4}-\d\d-\d\d: are the clocks right",
            "the client rejects the server's certificate",
        ),
        (
            ["gpu1.lan", "10.0.0.7"],
            (-1, 9),
            "ours",
            r"is not for 127\.0\.0\.1, but for gpu1\.lan, 10\.0\.0\.7: connect to a",
            "it is not for the name that the client connects to",
        ),
        (
            ["127.0.0.1"],
            (-1, 9),
            "other",
            r"is from an unknown CA .*: name its CA with --tls-ca",
            "does not know the CA of the server's certificate",
        ),
    ],
    ids=["expired", "not yet valid", "other name", "unknown CA"],
)
def test_server_certificate_that_is_rejected(
    authority: Authority,
    names: list[str],
    dates: tuple[float, float],
    trusted: str,
    at_client: str,
    at_server: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = authority.issue(*names, since=dates[0], until=dates[1])
    with serving(server_context(file, None, None)) as endpoint:
        with pytest.raises(ConnectError, match=at_client) as raised:
            connect(endpoint, timeout=20, tls=client_context(authority.ca(trusted)))
        assert str(endpoint) in str(raised.value)
        assert ("--tls-ca" in str(raised.value)) == (trusted == "other")
    assert at_server in caplog.text


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("kind", "at_client", "at_server"),
    [
        ("none", "--tls-cert", "the client has no certificate"),
        (
            "foreign",
            "the server does not know the CA of --tls-cert",
            "is from a CA that is not in --tls-client-ca",
        ),
        (
            "expired",
            "the server finds the certificate of --tls-cert expired: renew it",
            "the client's certificate, or a CA of it, has expired",
        ),
        (
            "not yet valid",
            "the server rejects the certificate of --tls-cert",
            "the client's certificate is not yet valid",
        ),
    ],
)
def test_client_certificate_that_is_rejected(
    authority: Authority,
    kind: str,
    at_client: str,
    at_server: str,
    version: ssl.TLSVersion,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = server_context(authority.issue("127.0.0.1"), None, authority.ca())
    file = None
    if kind != "none":
        dates = {"expired": (-9, -2), "not yet valid": (2, 9)}.get(kind, (-9, 9))
        ca = "other" if kind == "foreign" else "ours"
        file = authority.issue("me@example.org", ca=ca, since=dates[0], until=dates[1])
    client = client_context(authority.ca(), file)
    client.maximum_version = version
    with serving(server) as endpoint:
        for _ in range(3):  # the server's error must not depend on which side is faster
            with pytest.raises(ConnectError, match=at_client):
                connect(endpoint, timeout=20, tls=client)
    assert caplog.text.count(at_server) == 3


def test_server_without_tls_is_recognized(authority: Authority) -> None:
    with (
        running() as endpoint,
        pytest.raises(RemoteProtocolError, match="ggml RPC server without TLS: omit"),
    ):
        connect(endpoint, timeout=5, tls=client_context(authority.ca()))


def test_peer_of_another_protocol_does_not_use_tls(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as sock:
                sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                sock.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        endpoint = Endpoint(*listener.getsockname())
        with pytest.raises(ConnectError, match="it answers without TLS: omit --tls"):
            connect(endpoint, timeout=5, tls=client_context(authority.ca()))
        thread.join()


def test_server_that_is_silent_in_the_handshake(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint(*listener.getsockname())
        told = r"did not answer the TLS handshake within 0\.3 s: .*omit --tls"
        with pytest.raises(TransportTimeout, match=told):
            connect(endpoint, timeout=0.3, tls=client_context(authority.ca()))


def test_plain_client_is_told_to_the_server(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        serving(server_context(authority.issue("127.0.0.1"), None, None)) as endpoint,
        pytest.raises(RemoteProtocolError, match="speaks TLS"),
    ):
        connect(endpoint, timeout=20)
    assert "the client speaks without TLS" in caplog.text
    assert "'ggrpc tunnel'" in caplog.text


def test_reading_a_rejected_certificate_trusts_nothing(authority: Authority) -> None:
    """The names in a certificate of an unknown CA must not be printed."""
    file = authority.issue("gpu1.lan")
    with serving(server_context(file, None, None)) as endpoint:
        context = client_context(authority.ca("other"))
        with pytest.raises(ConnectError, match="unknown CA") as raised:
            TlsStream.connect_with(context, endpoint, Deadline(20))
    assert "gpu1" not in str(raised.value)


@pytest.mark.parametrize(
    ("certificate", "key", "told"),
    [
        (
            "certificate",
            None,
            "has no private key in PEM; name its file with --tls",
        ),
        ("key", "key", "key.pem has no certificate in PEM"),
        ("certificate", "other", "the key in .*other.pem is not that of .*certificate"),
        ("certificate", "certificate", "certificate.pem has no private key in PEM$"),
    ],
)
def test_files_that_do_not_fit_are_named(
    tmp_path: Path, certificate: str, key: str | None, told: str
) -> None:
    ca = trustme.CA()
    one, other = ca.issue_cert("a.org"), ca.issue_cert("b.org")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    one.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    other.private_key_pem.write_to_path(str(tmp_path / "other.pem"))
    key_file = key and str(tmp_path / f"{key}.pem")
    with pytest.raises(FileError, match=told):
        server_context(str(tmp_path / f"{certificate}.pem"), key_file, None)


@pytest.mark.parametrize("wants_client", [False, True])
def test_own_certificate_is_read(authority: Authority, wants_client: bool) -> None:
    file = authority.issue("gpu1.lan", "10.0.0.7", since=-9, until=-2)
    context = server_context(file, None, authority.ca() if wants_client else None)
    certificate = own_certificate(context, file)
    assert certificate.names == ("gpu1.lan", "10.0.0.7")
    assert certificate.days_left == -2 - 1
    assert not certificate.is_too_new


def test_own_certificate_that_no_client_accepts_is_an_error(tmp_path: Path) -> None:
    file = str(tmp_path / "client.pem")
    only_for_clients = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node1")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .add_extension(only_for_clients, critical=False)
        .sign(key, SHA256())
    )
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password)
    Path(file).write_bytes(certificate.public_bytes(pem) + private)
    with pytest.raises(ConfigError, match=r"clients will reject .*purpose"):
        own_certificate(server_context(file, None, None), file)


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        ({"subject": ((("commonName", "node1"),),)}, "node1"),
        ({"subjectAltName": (("email", "me@example.org"),)}, "me@example.org"),
        ({"subject": ((("organizationName", "lab"),),)}, "organizationName=lab"),
    ],
)
def test_subject_is_the_best_name_that_there_is(
    fields: dict[str, object], subject: str
) -> None:
    dates = {
        "notBefore": "Jan  1 00:00:00 2000 GMT",
        "notAfter": "Jan  1 00:00:00 3000 GMT",
    }
    assert certificate_of({**dates, **fields}).subject == subject
