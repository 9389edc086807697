"""The causes of failed TLS handshakes, each with what to do about it.

OpenSSL reports a cause as a verification code of this side, as an alert from the other
side, or as a reason of its own. Only this file knows these codes.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from ggrpc.engine.net.certificate import Certificate

_EXPIRED, _NOT_YET_VALID, _PURPOSE = 10, 9, 26  # X509_V_ERR_...
_OTHER_NAME = (62, 64)
_UNKNOWN_CA = (18, 19, 20, 21)

# What this side finds wrong, by the reason of OpenSSL.
_SERVER_FINDS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (
        "the client has no certificate: give it one with --tls-cert, from a CA in the "
        "server's --tls-client-ca"
    ),
    "HTTP_REQUEST": "the client speaks HTTP, so it is not a ggml RPC client",
    "WRONG_VERSION_NUMBER": (
        "the client speaks without TLS, which this server requires: give it --tls-ca, "
        "or connect llama.cpp through 'ggrpc tunnel'"
    ),
    "UNSUPPORTED_PROTOCOL": "the client's TLS is older than 1.2: update it",
}
# What OpenSSL also says of a peer that speaks without TLS.
_NO_TLS = ("UNKNOWN_PROTOCOL", "BAD_RECORD_TYPE", "PACKET_LENGTH_TOO_LONG")
_SERVER_FINDS |= dict.fromkeys(
    _NO_TLS,
    _SERVER_FINDS["WRONG_VERSION_NUMBER"],
)
_CLIENT_FINDS = {
    "WRONG_VERSION_NUMBER": (
        "it answers without TLS: omit --tls if it is a ggml RPC server, else the port "
        "is wrong"
    ),
    "UNSUPPORTED_PROTOCOL": "the server's TLS is older than 1.2: update it",
}
_CLIENT_FINDS |= dict.fromkeys(
    _NO_TLS,
    _CLIENT_FINDS["WRONG_VERSION_NUMBER"],
)

# Alerts of the other side, by the end of the reason.
_CLIENT_SAYS = {
    "CERTIFICATE_EXPIRED": (
        "the client finds the server's certificate expired: renew it"
    ),
    "UNKNOWN_CA": (
        "the client does not know the CA of the server's certificate: give it that CA "
        "with --tls-ca"
    ),
    "BAD_CERTIFICATE": (
        "the client rejects the server's certificate: it is not for the name that the "
        "client connects to, or not yet valid"
    ),
    "CERTIFICATE_UNKNOWN": "the client rejects the server's certificate",
    "PROTOCOL_VERSION": "the client's TLS is older than 1.2: update it",
}
_SERVER_SAYS = {
    "CERTIFICATE_REQUIRED": (
        "the server requires a client certificate: give one with --tls-cert"
    ),
    "CERTIFICATE_EXPIRED": (
        "the server finds the certificate of --tls-cert expired: renew it"
    ),
    "UNKNOWN_CA": (
        "the server does not know the CA of --tls-cert: use a certificate from a CA in "
        "the server's --tls-client-ca"
    ),
    "UNSUPPORTED_CERTIFICATE": (
        "the certificate of --tls-cert is not for clients: issue one with the extended "
        "key usage clientAuth"
    ),
    "BAD_CERTIFICATE": (
        "the server rejects the certificate of --tls-cert: is it valid already?"
    ),
    "CERTIFICATE_UNKNOWN": "the server rejects the certificate of --tls-cert",
    "HANDSHAKE_FAILURE": (
        "the server rejects this client: it may require a certificate (--tls-cert)"
    ),
    "PROTOCOL_VERSION": "the server's TLS is older than 1.2: update it",
}


def cause_at_server(error: ssl.SSLError) -> str:
    """The cause of a TLS failure and what to do about it, for a server."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _client_certificate(error)
    return _told(error, _SERVER_FINDS, _CLIENT_SAYS)


def cause_at_client(
    error: ssl.SSLError, host: str, certificate: Certificate | None
) -> str:
    """The cause of a TLS failure and what to do about it, for a client.

    Args:
        error: the error of the handshake, or of a later call: a server tells by an
            alert after the handshake what it thinks of the client's certificate.
        host: the server's name or address, as the client knows it.
        certificate: the server's certificate, if it could be read.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _server_certificate(error, host, certificate)
    return _told(error, _CLIENT_FINDS, _SERVER_SAYS)


def _told(
    error: ssl.SSLError, found: Mapping[str, str], alerts: Mapping[str, str]
) -> str:
    reason = error.reason or str(error)
    _, is_alert, alert = reason.partition("_ALERT_")
    known = alerts.get(alert) if is_alert else found.get(reason)
    return known or reason.replace("_", " ").lower()


def _client_certificate(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "the client's certificate, or a CA of it, has expired: renew it"
    if code == _NOT_YET_VALID:
        return "the client's certificate is not yet valid: are both clocks right?"
    if code in _UNKNOWN_CA:
        return (
            "the client's certificate is from a CA that is not in --tls-client-ca: "
            "give the client another one, or add its CA"
        )
    if code == _PURPOSE:
        return (
            "the client's certificate is not for clients: issue one with the extended "
            "key usage clientAuth"
        )
    return f"the client's certificate is not valid: {error.verify_message}"


def _server_certificate(
    error: ssl.SSLCertVerificationError, host: str, certificate: Certificate | None
) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        if certificate and certificate.days_left >= 0:
            return "a CA of the server's certificate has expired: renew that CA"
        since = f" on {certificate.until:%Y-%m-%d}" if certificate else ""
        return f"the server's certificate expired{since}: renew it there"
    if code == _NOT_YET_VALID:
        from_ = f" before {certificate.since:%Y-%m-%d}" if certificate else ""
        return (
            f"the server's certificate is not valid{from_ or ' yet'}: are the clocks "
            "right here and there?"
        )
    if code in _OTHER_NAME:
        names = ", ".join(certificate.names) if certificate else ""
        return (
            f"the server's certificate is not for {host}, but for "
            f"{names or 'other names'}: connect to a name that it has, or issue it for "
            "this one"
        )
    if code in _UNKNOWN_CA:
        return (
            f"the server's certificate is from an unknown CA ({error.verify_message}): "
            "name its CA with --tls-ca"
        )
    return f"the server's certificate is not valid: {error.verify_message}"
