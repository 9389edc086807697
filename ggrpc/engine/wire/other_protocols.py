"""Recognizes other protocols, such as TLS, HTTP and SSH, by a peer's first bytes.

A wrong port is a common mistake, and an error that names its protocol helps to find it.
"""

from __future__ import annotations

import string

TLS, HTTP = "TLS", "HTTP"
MAX_SHOWN = 40  # characters of a greeting

# The content types of TLS records; the major version, 3, is in the second byte.
_TLS_RECORDS = range(20, 24)
_HTTP_STARTS = (
    # Python's http.server sends a page without a status line if it has no version.
    *(b"HTTP/", b"<html", b"<HTML", b"<!DOCTYPE", b"<!doctype"),
    *(b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT "),
    b"PRI * HTTP/2",
)
# The first frame of an HTTP/2 server: SETTINGS, without flags, on stream 0. The three
# bytes before it are its length.
_HTTP2_SETTINGS = b"\4\0\0\0\0\0"
_TEXT = frozenset(string.printable.encode())


def protocol_of(first: bytes) -> str:
    """The name of a peer's protocol: TLS, HTTP, SSH or a text protocol; '' if unknown.

    Args:
        first: the first bytes that the peer sent.
    """
    if len(first) > 1 and first[0] in _TLS_RECORDS and first[1] == 3:
        return TLS
    if first.startswith(_HTTP_STARTS) or first[3:9] == _HTTP2_SETTINGS:
        return HTTP
    if first.startswith(b"SSH-"):
        return "SSH"
    line = first.partition(b"\n")[0].rstrip()
    if len(line) > 2 and _TEXT.issuperset(line):
        return f"a text protocol ('{line[:MAX_SHOWN].decode()}')"
    return ""
