"""TLS, on both sides: the contexts, and a stream that is encrypted.

llama.cpp knows none of it: `ggrpc tunnel` stands in for it.
"""

from __future__ import annotations

import socket
import ssl
from typing import NoReturn

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import NEVER, Deadline
from ggrpc.engine.net.transport import Pieces, Stream, dial
from ggrpc.errors import ConfigError, ConnectError, ConnectionLost

# Bytes that one call encrypts: each call has the whole time budget for itself.
MAX_AT_ONCE = 1 << 20
# Smaller pieces are joined, so that a head and its payload make one record.
SMALL = 1 << 14


class TlsStream(Stream):
    """A stream that is encrypted; nothing goes over it before `handshake`.

    Args:
        sock: connected.
        endpoint: the peer.
        context: the certificates to show and to trust.
        server_side: whether the peer is the client.
    """

    def __init__(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        server_side: bool = True,
    ) -> None:
        super().__init__(sock, endpoint)
        self._socket = self._secure = context.wrap_socket(
            sock,
            server_side=server_side,
            server_hostname=None if server_side else endpoint.host,
            do_handshake_on_connect=False,
        )
        self._timeout = sock.gettimeout()

    @classmethod
    def connect_with(
        cls, context: ssl.SSLContext, endpoint: Endpoint, deadline: Deadline = NEVER
    ) -> TlsStream:
        """Connect to a server and make sure who it is.

        Raises:
            ConnectError: nobody answers there, or it is not to be trusted.
            TransportTimeout: not in time.
        """
        stream = cls(dial(endpoint, deadline), endpoint, context, server_side=False)
        try:
            stream.handshake(deadline)
        except ConnectionLost as error:
            stream.close()
            raise _no_trust(endpoint, error.__cause__) from error
        except BaseException:
            stream.close()
            raise
        return stream

    def handshake(self, deadline: Deadline = NEVER) -> None:
        def shake_hands(nothing: None) -> int:
            self._secure.do_handshake()
            return 0

        self._call(shake_hands, None, deadline)

    def receive_soon(self, view: memoryview, deadline: Deadline = NEVER) -> int:
        return self.receive(view, deadline)

    def send(self, pieces: Pieces, deadline: Deadline = NEVER) -> None:
        if sum(map(len, pieces)) <= SMALL:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            view = memoryview(piece)
            while len(view):
                batch = view[:MAX_AT_ONCE]
                view = view[self._call(self._secure.send, batch, deadline) :]

    def give_up_after(self, seconds: float) -> None:
        # OpenSSL would begin again what the system gave up.
        self._call_timeout = seconds


def server_context(
    certificate: str, key: str | None, client_ca: str | None
) -> ssl.SSLContext:
    """What a server shows, and whom it trusts.

    Args:
        certificate: file with its certificate, and those between it and its CA.
        key: file with its key, None where it is in the same.
        client_ca: file with the CAs of clients, which then must show a certificate.

    Raises:
        ConfigError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    _load_identity(context, certificate, key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_trusted(context, client_ca)
    return context


def client_context(
    ca: str | None = None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """Whom a client trusts, and what it shows.

    Args:
        ca: file with the CAs of servers, None for those of the system.
        certificate: file with its certificate, where servers want one.
        key: file with its key, None where it is in the same.

    Raises:
        ConfigError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if ca:
        _load_trusted(context, ca)
    else:
        context.load_default_certs()
    if certificate:
        _load_identity(context, certificate, key)
    elif key:
        raise ConfigError("--tls-key needs --tls-cert")
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Where a message ends is told by its length, so an end without a farewell is no
    # danger; and without this, who closes his half gets no reply any more.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


def _load_identity(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    def refuse_password() -> NoReturn:
        raise ConfigError(
            f"the key in {key or certificate} has a password: a server has nobody to "
            "ask; decrypt it with openssl pkey"
        )

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except (OSError, ValueError) as error:
        files = f"{certificate} and {key}" if key else certificate
        raise ConfigError(
            f"no certificate and key in {files}: {_reason(error)}"
        ) from error


def _load_trusted(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no CA in {ca}: {_reason(error)}") from error


def _no_trust(endpoint: Endpoint, cause: BaseException | None) -> ConnectError:
    reason = _reason(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        advice = f"{cause.verify_message}; name its CA with --tls-ca"
    elif "WRONG_VERSION" in reason:
        advice = f"it speaks no TLS ({reason}); leave --tls out"
    else:
        advice = reason
    return ConnectError(
        f"no TLS connection with {endpoint}: {advice}", endpoint=str(endpoint)
    )


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return getattr(error, "strerror", None) or str(error)


def connect_stream(
    endpoint: Endpoint,
    deadline: Deadline = NEVER,
    context: ssl.SSLContext | None = None,
) -> Stream:
    """Connect to a server, over TLS if a context is given.

    Raises:
        ConnectError: the connection failed, or the server is not trusted.
        TransportTimeout: the deadline passed.
    """
    if context is None:
        return Stream.connect(endpoint, deadline)
    return TlsStream.connect_with(context, endpoint, deadline)
