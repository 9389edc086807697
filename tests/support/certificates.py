"""Certificates of a CA that exists for one test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import trustme


class Certificates(NamedTuple):
    """Files with what two sides need.

    Attributes:
        ca: the CA's certificate.
        server: the server's certificate and key, for loopback's addresses.
        client: the client's certificate and key.
        stranger: a client's, of another CA.
    """

    ca: str
    server: str
    client: str
    stranger: str


def make_certificates(folder: Path) -> Certificates:
    """Write them into a folder."""
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
