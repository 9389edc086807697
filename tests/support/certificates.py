"""Certificates of a CA that exists for one test."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import trustme


class Certificates(NamedTuple):
    """The paths of the files that a server and its clients need.

    Attributes:
        ca: the CA's certificate.
        server: the server's certificate and key, for the loopback addresses.
        client: a client's certificate and key.
        stranger: the certificate and key of a client of another CA.
    """

    ca: str
    server: str
    client: str
    stranger: str


def issue(
    ca: trustme.CA, file: Path, *names: str, since: float = -9, until: float = 99
) -> str:
    """Write a certificate and its key into a file.

    Args:
        ca: the CA that signs it.
        file: the file.
        names: host names, addresses, or one e-mail address of a client.
        since: when it becomes valid, in days from now.
        until: when it expires, in days from now.

    Returns:
        The path of the file.
    """
    now = datetime.now(timezone.utc)
    issued = ca.issue_cert(
        *names,
        not_before=now + timedelta(days=since),
        not_after=now + timedelta(days=until),
    )
    issued.private_key_and_cert_chain_pem.write_to_path(str(file))
    return str(file)


def make_certificates(folder: Path) -> Certificates:
    """Write all certificates to a folder."""
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = ca.issue_cert("127.0.0.1", "::1", "localhost")
    issued = {
        "server": server,
        "client": ca.issue_cert("client@example.org"),
        "stranger": other.issue_cert("client@example.org"),
    }
    for name, certificate in issued.items():
        path = str(folder / f"{name}.pem")
        certificate.private_key_and_cert_chain_pem.write_to_path(path)
    return Certificates(
        str(folder / "ca.pem"), *(str(folder / f"{name}.pem") for name in issued)
    )
