from __future__ import annotations

import pytest

from ggrpc.engine.wire.connection import ServerConnection
from ggrpc.engine.wire.dialects import DIALECTS, NEWEST
from ggrpc.engine.wire.other_protocols import protocol_of
from ggrpc.errors import RemoteProtocolError


@pytest.mark.parametrize(
    ("first", "protocol"),
    [
        (b"\x16\3\1\2\0\1\0\1\xfc", "TLS"),  # a client's first record
        (b"\x15\3\1\0\2\2\x46", "TLS"),  # an alert
        (b"HTTP/1.1 400 Bad Request\r\n", "HTTP"),
        (b"<html>\r\n<head>", "HTTP"),
        (b"GET /health HTTP/1.1\r\n", "HTTP"),
        (bytes([0, 0, 18, 4, 0, 0, 0, 0, 0, 0, 3]), "HTTP"),  # 2, as gRPC uses it
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"220 mail.example.org ESMTP\r\n", "a text protocol ('220 mail.example.org"),
        (b"-ERR wrong number\r\n", "a text protocol ('-ERR wrong number')"),
        (b"", ""),
        (b"\x16", ""),
        (b"\r\n\r\n", ""),
        (bytes(9), ""),
        (b"\xff" * 64, ""),
    ],
)
def test_first_bytes_tell_the_protocol(first: bytes, protocol: str) -> None:
    assert protocol_of(first).startswith(protocol)
    assert bool(protocol) == bool(protocol_of(first))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: str(one.version))
def test_no_message_of_ours_is_taken_for_another_protocol(dialect) -> None:  # type: ignore[no-untyped-def]
    for command in dialect.commands:
        for size in (0, 4, 24, 1 << 20):
            head = bytes([command.number]) + size.to_bytes(8, "little")
            assert protocol_of(head) == ""
    welcome = (28).to_bytes(8, "little") + bytes(dialect.version) + bytes(25)
    assert protocol_of(welcome) == ""


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b"\x16\3\1\2\0\1\0\1\xfc", "the client speaks TLS: start .* --tls-cert"),
        (b"GET / HTTP/1.1\r\n", "the client speaks HTTP: it is not a ggml RPC client"),
    ],
)
def test_server_names_the_protocol_of_its_client(first: bytes, told: str) -> None:
    connection = ServerConnection(lambda size: NEWEST)
    connection.space()[: len(first)] = first
    connection.filled(len(first))
    with pytest.raises(RemoteProtocolError, match=told) as raised:
        connection.next_request()
    assert raised.value.command is None
