"""Reads what a TLS certificate says: the names that it is for, subject and dates."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ggrpc.errors import ConfigError

NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME
SECONDS_OF_A_DAY = 86_400


class Certificate(NamedTuple):
    """The parts of a certificate that an operator needs.

    Attributes:
        names: the host names and addresses that it is for.
        subject: the common name of its owner, or else another name in it.
        since: when it becomes valid.
        until: when it expires.
    """

    names: tuple[str, ...]
    subject: str
    since: datetime
    until: datetime

    @property
    def days_left(self) -> int:
        """The whole days until it expires, negative if it has."""
        seconds = self.until.timestamp() - time.time()
        return int(seconds // SECONDS_OF_A_DAY)

    @property
    def is_too_new(self) -> bool:
        """Whether it is not valid yet."""
        return self.since.timestamp() > time.time()


def certificate_of(peer: Mapping[str, Any]) -> Certificate:
    """The certificate that `SSLSocket.getpeercert` describes."""
    alternatives = peer.get("subjectAltName", ())
    names = [name for kind, name in alternatives if kind in ("DNS", "IP Address")]
    subject = {key: value for part in peer.get("subject", ()) for key, value in part}
    others = [name for _, name in alternatives]
    whole = ", ".join(map("=".join, subject.items()))
    return Certificate(
        tuple(names),
        subject.get("commonName") or ", ".join(others) or whole,
        _time(peer["notBefore"]),
        _time(peer["notAfter"]),
    )


def own_certificate(context: ssl.SSLContext, file: str) -> Certificate:
    """The certificate that a server presents.

    Args:
        context: the server's context.
        file: the file that the certificate came from; it is trusted here.

    Raises:
        ConfigError: every client will reject it, whichever CAs the client trusts.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.load_verify_locations(file)
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    trusting.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    try:
        for side in (client, server) * 3:
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"clients will reject the certificate in {file}: {error.verify_message}"
        ) from error
    except ssl.SSLError:
        pass  # the server requires a client certificate; its own has been read by now
    peer = client.getpeercert()
    assert peer, "the server has sent its certificate"
    return certificate_of(peer)


def without_time_and_name(context: ssl.SSLContext) -> ssl.SSLContext:
    """A context with the same CAs that ignores names and dates.

    It reads a certificate that was rejected, to tell what is wrong with it.
    """
    reading = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    reading.check_hostname = False
    reading.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    for ca in context.get_ca_certs(binary_form=True):
        reading.load_verify_locations(cadata=ca)
    return reading


def _time(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), timezone.utc)
