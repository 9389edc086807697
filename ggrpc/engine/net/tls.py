"""TLS for clients and servers: contexts from PEM files, and an encrypted stream.

llama.cpp has no TLS: `ggrpc tunnel` connects it to a server that requires TLS.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.certificate import (
    Certificate,
    certificate_of,
    without_time_and_name,
)
from ggrpc.engine.net.deadline import NEVER, Deadline, TimeLimit
from ggrpc.engine.net.tls_failures import cause_at_client, cause_at_server
from ggrpc.engine.net.transport import Pieces, Stream, dial
from ggrpc.errors import (
    ConfigError,
    ConnectError,
    ConnectionLost,
    FileError,
    TransportError,
    TransportTimeout,
)

# The most bytes that one call encrypts, because each call has the whole time limit.
MAX_AT_ONCE = 1 << 20
ALERT_SECONDS = 0.1  # for an alert that must have come, if there is one
READING_SECONDS = 1.0  # for reading a certificate, to tell what is wrong with it
# Messages up to this many bytes are joined, so that they take a single TLS record.
MAX_JOINED = 1 << 14


class TlsStream(Stream):
    """An encrypted stream. Call `handshake` before anything else.

    Args:
        sock: a connected socket; the stream owns it.
        endpoint: the peer's address.
        context: this side's certificate and the CAs that it trusts.
        server_side: whether this side is the server.
    """

    def __init__(
        self,
        sock: socket.socket,
        endpoint: Endpoint,
        context: ssl.SSLContext,
        server_side: bool = True,
    ) -> None:
        super().__init__(sock, endpoint)
        self._context = context
        self._is_server = server_side
        self._certificate: Certificate | None = None  # a server's that is rejected
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
        """Connect to a server and verify its certificate.

        Raises:
            ConnectError: no server answers, or its certificate is not trusted.
            ConnectionLost: the server closed the connection.
            TransportTimeout: the deadline passed.
        """
        stream = cls(dial(endpoint, deadline), endpoint, context, server_side=False)
        try:
            stream.handshake(deadline)
        except ConnectionLost as error:
            stream.close()
            raise ConnectionLost(
                f"{endpoint} closed the connection in the TLS handshake: it does not "
                "use TLS (then omit --tls), or does not admit this address; its log "
                "says why",
                endpoint=str(endpoint),
            ) from error
        except TransportTimeout as error:
            stream.close()
            raise TransportTimeout(
                f"{endpoint} accepts connections but did not answer the TLS handshake "
                f"within {deadline.seconds:g} s: it is hung, busy with another client, "
                "or does not use TLS (then omit --tls)",
                endpoint=str(endpoint),
            ) from error
        except BaseException:
            stream.close()
            raise
        return stream

    def handshake(self, limit: TimeLimit = NEVER) -> None:
        """Do the TLS handshake.

        Raises:
            ConnectError: the peer uses no TLS, or a certificate is not trusted.
            ConnectionLost: the peer closed the connection.
            TransportTimeout: the limit was exceeded.
        """

        def do_handshake(_: None) -> int:
            self._secure.do_handshake()
            return 0

        self._call(do_handshake, None, limit)

    @property
    def has_handshake(self) -> bool:
        """Whether `handshake` exchanges bytes with the peer: it does."""
        return True

    @property
    def subject(self) -> str:
        """The subject of the peer's certificate; '' if it has none."""
        peer = self._secure.getpeercert()
        return certificate_of(peer).subject if peer else ""

    def _broken(self, error: OSError) -> TransportError:
        if not isinstance(error, ssl.SSLError) or _is_end(error):
            error = self._last_alert() or error
        if not isinstance(error, ssl.SSLError):
            return super()._broken(error)
        if _is_end(error):
            return ConnectionLost(
                f"{self.endpoint} closed the TLS connection",
                endpoint=str(self.endpoint),
            )
        if self._is_server:
            cause = cause_at_server(error)
        else:
            certificate = self._rejected_certificate(error)
            cause = cause_at_client(error, self.endpoint.host, certificate)
        return ConnectError(
            f"no TLS connection with {self.endpoint}: {cause}",
            endpoint=str(self.endpoint),
        )

    def _last_alert(self) -> ssl.SSLError | None:
        """The alert that came before the peer closed; a failed `send` has not read it.

        From TLS 1.3 on, a server checks the client's certificate after the handshake.
        """
        if self._is_server:
            return None
        with suppress(ValueError):
            try:
                self._secure.settimeout(ALERT_SECONDS)
                self._secure.recv(1)
            except ssl.SSLError as error:
                return error
            except OSError:
                pass
        return None

    def _rejected_certificate(self, error: ssl.SSLError) -> Certificate | None:
        """The server's certificate, read over another connection that tolerates it."""
        if not isinstance(error, ssl.SSLCertVerificationError):
            return None
        reading = without_time_and_name(self._context)
        deadline = Deadline(READING_SECONDS)
        with suppress(OSError, TransportError), dial(self.endpoint, deadline) as sock:
            sock.settimeout(READING_SECONDS)
            with reading.wrap_socket(sock) as secure:
                peer = secure.getpeercert()
                return certificate_of(peer) if peer else None
        return None

    def receive(self, view: memoryview, limit: TimeLimit = NEVER) -> int:
        """Receive like `Stream.receive`.

        OpenSSL may report a reset as the end of the stream.
        """
        count = super().receive(view, limit)
        if not count and not self.was_shut and self._was_reset:
            reset = errno.ECONNRESET
            raise super()._broken(ConnectionResetError(reset, os.strerror(reset)))
        return count

    @property
    def _was_reset(self) -> bool:
        """Whether the socket has lost its peer: one that was closed still has it."""
        try:
            self._socket.getpeername()
        except OSError:
            return True
        return False

    @property
    def has_input(self) -> bool:
        """Whether there are decrypted bytes to receive already."""
        return bool(self._secure.pending())

    def receive_spinning(self, view: memoryview, limit: TimeLimit = NEVER) -> int:
        """Receive like `receive`, because a TLS socket has no MSG_DONTWAIT."""
        return self.receive(view, limit)

    def receive_pieces(
        self, views: Sequence[memoryview], limit: TimeLimit = NEVER
    ) -> None:
        """Fill one view after the other."""
        for view in views:
            self.receive_exactly(view, limit)

    def send(self, pieces: Pieces, limit: TimeLimit = NEVER) -> None:
        """Encrypt and send all pieces in order; small pieces are joined.

        Raises:
            ConnectionLost: the peer has closed.
            TransportTimeout: the limit was exceeded.
        """
        self._sends = True
        if sum(map(len, pieces)) <= MAX_JOINED:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            view = memoryview(piece)
            while len(view):
                batch = view[:MAX_AT_ONCE]
                view = view[self._call(self._secure.send, batch, limit) :]
        self._sends = False

    def set_call_timeout(self, seconds: float) -> None:
        """Limit each call that has no timeout of its own."""
        # OpenSSL would retry a call that SO_RCVTIMEO ended.
        self._call_timeout = seconds


def answer_to_tls(endpoint: Endpoint, deadline: Deadline) -> bytes:
    """The first bytes of a server's answer to a TLS handshake, to tell its protocol.

    Returns:
        Two bytes; none if the server does not answer.
    """
    outgoing, context = ssl.MemoryBIO(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    first = bytearray(2)
    with suppress(TransportError), closing(Stream.connect(endpoint, deadline)) as peer:
        peer.send([outgoing.read()], deadline)
        peer.receive_exactly(memoryview(first), deadline)
        return bytes(first)
    return b""


def server_streams(
    context_now: Callable[[], ssl.SSLContext | None],
) -> Callable[[socket.socket, Endpoint], Stream]:
    """A function that makes a server's stream from a socket and its peer's address.

    Args:
        context_now: the server's context for a new connection, None for no TLS.
    """

    def stream(sock: socket.socket, endpoint: Endpoint) -> Stream:
        context = context_now()
        return TlsStream(sock, endpoint, context) if context else Stream(sock, endpoint)

    return stream


def server_context(
    certificate: str, key: str | None, client_ca: str | None
) -> ssl.SSLContext:
    """The context of a server.

    Args:
        certificate: a file with the server's certificate, and those up to its CA.
        key: a file with the private key, None if `certificate` holds it.
        client_ca: a file with CAs; only clients with a certificate from one of them
            may connect. None accepts every client.

    Raises:
        FileError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _configure(context)
    _load_identity(context, certificate, key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_trusted(context, client_ca)
    return context


def client_context(
    ca: str | None = None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """The context of a client.

    Args:
        ca: a file with the CAs that may sign servers, None for the system's CAs.
        certificate: a file with the client's certificate, if servers require one.
        key: a file with the private key, None if `certificate` holds it.

    Raises:
        ConfigError: there is a key without a certificate.
        FileError: a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context)
    if ca:
        _load_trusted(context, ca)
    else:
        context.load_default_certs()
    if certificate:
        _load_identity(context, certificate, key)
    elif key:
        raise ConfigError("--tls-key needs --tls-cert")
    return context


def _configure(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # An end without close_notify is safe, because each message has a length. Without
    # this option, a peer that closes its half would get no more replies.
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


def _load_identity(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    def refuse_password() -> NoReturn:
        raise FileError(
            f"the key in {key or certificate} has a password; decrypt it with "
            "openssl pkey"
        )

    try:
        context.load_cert_chain(certificate, key, refuse_password)
    except (OSError, ValueError) as error:
        raise FileError(_no_identity(certificate, key, error)) from error


def _no_identity(certificate: str, key: str | None, error: Exception) -> str:
    """What is wrong with the files of a certificate and its key."""
    reason = _reason(error)
    if reason == "key values mismatch":
        return f"the key in {key or certificate} is not that of {certificate}"
    with suppress(OSError):
        if b"BEGIN CERTIFICATE" not in Path(certificate).read_bytes():
            reason = f"{certificate} has no certificate in PEM"
        elif b"PRIVATE KEY" not in Path(key or certificate).read_bytes():
            advice = "" if key else "; name its file with --tls-key"
            reason = f"{key or certificate} has no private key in PEM{advice}"
    files = f"{certificate} and {key}" if key else certificate
    return f"no certificate and key in {files}: {reason}"


def _load_trusted(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise FileError(f"no CA in {ca}: {_reason(error)}") from error


def _is_end(error: OSError) -> bool:
    """Whether an error says no more than that the peer has closed."""
    reason = getattr(error, "reason", None) or ""
    ends = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return isinstance(error, ends) or "UNEXPECTED_EOF" in reason


def _reason(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it is not PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


def connect_stream(
    endpoint: Endpoint,
    deadline: Deadline = NEVER,
    context: ssl.SSLContext | None = None,
) -> Stream:
    """Connect to a server, over TLS if `context` is given.

    Raises:
        ConnectError: the connection failed, or the server is not trusted.
        TransportTimeout: the deadline passed.
    """
    if context is None:
        return Stream.connect(endpoint, deadline)
    return TlsStream.connect_with(context, endpoint, deadline)
