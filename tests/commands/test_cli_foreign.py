"""Commands on servers that are newer than ggrpc, or of forks."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from ggrpc.engine.wire.dialects import NEWEST, supported_versions
from tests.support.foreign import FORKS, GIB, NEWER, Foreign, foreign_server
from tests.support.processes import free_port

ALL = [*NEWER, *FORKS]
REFUSING = [
    ("check", "{endpoint}"),
    ("bench", "{endpoint}", "--rounds", "1"),
    ("shell", "{endpoint}"),
    ("push", "{array}", "{endpoint}"),
    ("push", "{array}", "{endpoint}", "--hold"),
]


def kind_id(kind: object) -> str:
    return kind.version if isinstance(kind, Foreign) else str(kind[0])  # type: ignore[index]


@pytest.fixture
def array(tmp_path: Path) -> Path:
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(4, np.float32))
    return path


@pytest.mark.parametrize("kind", ALL, ids=kind_id)
def test_probe_shows_what_a_foreign_server_is(piped, kind: Foreign) -> None:  # type: ignore[no-untyped-def]
    with foreign_server(kind) as server:
        outcome = piped("probe", server.endpoint, "--json")
        text = piped("probe", server.endpoint)
    assert (outcome.code, outcome.err, text.code) == (0, "", 0)
    assert [row["device"] for row in outcome.rows] == [0, 1][: 1 + kind.has_devices]
    for row in outcome.rows:
        assert row.pop("latency_ms") > 0
        assert row.pop("device") in (0, 1)
        assert row.pop("note").startswith(kind.name)
        assert row == {
            "endpoint": server.endpoint,
            "protocol": kind.version,
            "clients": None,
            "alignment_bytes": 128,
            "max_buffer_bytes": 8 * GIB,
            "memory_free_bytes": 3 * GIB,
            "memory_total_bytes": 4 * GIB,
        }
    headers, *lines = text.out.splitlines()
    assert headers.endswith("  NOTE")
    assert all(f"  {kind.name}" in line for line in lines)
    assert server.wrong == []


@pytest.mark.parametrize("kind", ALL, ids=kind_id)
def test_mem_shows_the_memory_of_a_foreign_server(piped, kind: Foreign) -> None:  # type: ignore[no-untyped-def]
    with foreign_server(kind) as server:
        outcome = piped("mem", server.endpoint, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    keys = ["endpoint", "device", "memory_free_bytes", "memory_used_bytes"]
    for row in outcome.rows:
        assert list(row) == [*keys, "memory_total_bytes", "note"]
        assert row["memory_used_bytes"] == GIB
        assert row["note"].startswith(kind.name)
    assert server.wrong == []


@pytest.mark.parametrize("kind", ALL, ids=kind_id)
@pytest.mark.parametrize("command", REFUSING, ids=" ".join)
def test_other_commands_refuse_a_foreign_server(  # type: ignore[no-untyped-def]
    piped, kind: Foreign, command: tuple[str, ...], array: Path
) -> None:
    with foreign_server(kind) as server:
        filled = [a.format(endpoint=server.endpoint, array=array) for a in command]
        code, out, err = piped(*filled)
        again = piped("mem", server.endpoint)
    assert (code, out) == (5, "")
    assert err.count("\n") == 1
    assert f"{server.endpoint} " in err
    assert kind.name in err
    assert kind.version in err
    assert "'ggrpc probe' and 'ggrpc mem'" in err
    assert again.code == 0  # the command did no harm to the server
    assert server.wrong == []


@pytest.mark.parametrize("kind", ALL, ids=kind_id)
def test_record_refuses_a_foreign_server(piped, kind: Foreign, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    port = free_port()

    def client() -> None:
        hello = struct.pack("<BQ", 14, kind.hello) + bytes(kind.hello)
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), 20) as sock:
                    sock.sendall(hello)
                    while sock.recv(100):
                        pass
                return
            except ConnectionRefusedError:
                continue
            except ConnectionError:
                return

    with foreign_server(kind) as server:
        thread = threading.Thread(target=client)
        thread.start()
        to = str(tmp_path / "graph.bin")
        arguments = str(port), server.endpoint, "-o", to, "--for", "20"
        code, out, err = piped("record", *arguments)
        thread.join(20)
    *_, line = err.splitlines()
    assert (code, out) == (5, "")
    assert line.startswith(f"ggrpc: error: {server.endpoint} ")
    assert kind.name in line


@pytest.mark.parametrize("protocol", [str(NEWEST.version), "5.0.0"])
def test_newer_server_is_seen_with_a_version_given_too(piped, protocol: str) -> None:  # type: ignore[no-untyped-def]
    with foreign_server(NEWER[1]) as server:
        row, _ = piped("mem", server.endpoint, "--protocol", protocol, "--json").rows
    assert row["note"] == "newer than this ggrpc"


@pytest.mark.parametrize(
    ("welcome", "hello", "complaint"),
    [
        (
            bytes([99, 0, 0]),
            0,
            f"speaks protocol 99.0.0; ggrpc speaks {supported_versions()}",
        ),
        (bytes([99, 0, 0, 0]), 0, "speaks protocol 99.0.0; ggrpc speaks"),
        (bytes([7, 0, 0]), 0, "announces protocol 7.0.0 in 3 bytes, the wrong size"),
        (bytes([3, 6, 1, 0]), 0, "announces protocol 3.6.1 in 4 bytes, the wrong size"),
        (bytes([2, 0, 0]).ljust(28, b"\0"), 24, "announces protocol 2.0.0 in 28 bytes"),
        (bytes([99, 0, 0]).ljust(27, b"\0"), 24, "the reply to HELLO"),
        (bytes([99, 0, 0]).ljust(29, b"\0"), 24, "the reply to HELLO"),
        (bytes(28), 24, "speaks protocol 0.0.0; ggrpc speaks"),
        (bytes([7, 7, 0]).ljust(28, b"\0"), 24, "speaks protocol 7.7.0; ggrpc speaks"),
    ],
)
@pytest.mark.parametrize("command", ["probe", "mem"])
def test_malformed_answer_is_not_called_newer(  # type: ignore[no-untyped-def]
    piped, command: str, welcome: bytes, hello: int, complaint: str
) -> None:
    with foreign_server(Foreign("", welcome, hello)) as server:
        code, out, err = piped(command, server.endpoint)
    assert (code, out, err.count("\n")) == (5, "", 1)
    assert complaint in err
    assert "newer" not in err


def test_newer_server_without_the_queries_is_named_in_the_error(piped) -> None:  # type: ignore[no-untyped-def]
    kind = NEWER[0]._replace(has_devices=False)
    with foreign_server(kind) as server:
        code, out, err = piped("probe", server.endpoint)
    assert (code, out, err.count("\n")) == (6, "", 1)
    assert "instead of answering DEVICE_COUNT" in err
    assert f"it speaks protocol {kind.version}, newer than this ggrpc" in err


def test_foreign_servers_beside_others_keep_their_rows(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    with foreign_server(NEWER[0]) as newer, foreign_server(FORKS[0]) as fork:
        outcome = piped("mem", server, newer.endpoint, fork.endpoint, "--json")
    assert outcome.code == 0
    assert [row["note"] for row in outcome.rows] == [
        *(None, None),
        *("newer than this ggrpc",) * 2,
        *("ik_llama.cpp: probe and mem only",) * 2,
    ]
