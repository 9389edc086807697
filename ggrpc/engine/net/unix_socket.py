"""Datagrams to Unix sockets, which systemd uses for notifications."""

from __future__ import annotations

import socket


def send_datagram(address: str, data: bytes) -> None:
    """Send one datagram.

    Args:
        address: a path; or a name after `@` in Linux's abstract namespace.
        data: the datagram.

    Raises:
        OSError: the socket does not exist or rejects the datagram.
    """
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect(address)
        sock.send(data)
