from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggrpc.commands.environment import Environment
from ggrpc.commands.fleet import all_at_once
from ggrpc.commands.main import run
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client
from ggrpc.engine.server.negotiation import AdaptiveNegotiator
from ggrpc.engine.server.session import Session
from ggrpc.engine.wire.dialects import NEWEST, V3_6_1, V5_0_0, supported_versions
from tests.commands.conftest import NoMaths, Terminal
from tests.support.paths import NEWEST as NEWEST_PEER
from tests.support.paths import peer_python
from tests.support.processes import free_port, native_serving
from tests.support.servers import running

GIB = 1 << 30


@pytest.fixture
def unreachable() -> str:
    """An endpoint that no server listens on."""
    return f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def stranger(answer: bytes | None) -> Iterator[str]:
    """A server that sends `answer` to every client, or nothing at all if it is None."""
    done = threading.Event()

    def talk() -> None:
        while not done.is_set():
            connection, _ = listener.accept()
            # A client that stops waiting resets its connection.
            with connection, contextlib.suppress(ConnectionError):
                if answer is None:
                    done.wait()
                with contextlib.suppress(ConnectionError):
                    connection.recv(1 << 10)
                    connection.sendall(answer or b"")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = "{}:{}".format(*listener.getsockname())
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield endpoint
        finally:
            done.set()
            with contextlib.suppress(OSError):
                socket.create_connection(listener.getsockname()).close()
            thread.join()


def test_probe_shows_a_row_a_device(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = piped("probe", server)
    assert (code, err) == (0, "")
    headers, first, second = out.splitlines()
    assert headers.split() == (
        [
            "ENDPOINT",
            "PROTOCOL",
            "LLAMA.CPP",
            "BUILDS",
            "DEVICE",
            "ALIGNMENT",
            "LARGEST",
            "BUFFER",
            "FREE",
            "TOTAL",
            "LATENCY",
        ]
    )
    for number, line in enumerate((first, second)):
        version = f"{NEWEST.version}     since {NEWEST.since}"
        start = f"{server}  {version}       {number}       32 B"
        assert line.startswith(f"{start}         1.0 TiB  3.0 GiB  4.0 GiB ")
        assert line.endswith(" ms")


def test_probe_tells_what_ggrpc_speaks_and_not_what_it_has_learned(piped) -> None:  # type: ignore[no-untyped-def]
    negotiator = AdaptiveNegotiator()
    negotiator.accepted("::1", V5_0_0)
    with running(negotiator=negotiator) as endpoint:
        (row,) = piped("probe", str(endpoint), "--json").rows
    newest = NEWEST.version
    assert row["protocol"] == str(newest)
    assert row["clients"] == f"all (ggrpc, 1.0 to {newest.major}.{newest.minor})"
    assert negotiator.offer("::1", 24) is V5_0_0


def test_probe_json_has_flat_rows_with_units(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("probe", server, "--json")
    assert outcome.code == 0
    latencies = [row.pop("latency_ms") for row in outcome.rows]
    assert all(0 < latency < 5000 for latency in latencies)
    rows = outcome.rows
    assert [list(row) for row in rows] == [
        [
            *("endpoint", "device", "protocol", "clients"),
            *("alignment_bytes", "max_buffer_bytes"),
            *("memory_free_bytes", "memory_total_bytes", "latency_ms", "note"),
        ]
    ] * 2
    assert (
        rows[1].items()
        >= {
            "endpoint": server,
            "device": 1,
            "protocol": str(NEWEST.version),
            "alignment_bytes": 32,
            "max_buffer_bytes": 1 << 40,
            "memory_free_bytes": 3 * GIB,
            "memory_total_bytes": 4 * GIB,
        }.items()
    )


def test_mem_shows_free_used_and_total(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    width = len(server)
    assert piped("mem", server) == (
        0,
        f"{'ENDPOINT':{width}}  DEVICE     FREE     USED    TOTAL\n"
        f"{server}       0  3.0 GiB  1.0 GiB  4.0 GiB\n"
        f"{server}       1  3.0 GiB  1.0 GiB  4.0 GiB\n",
        "",
    )


def test_mem_json_has_flat_rows_with_units(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("mem", "--json", server)
    assert outcome.code == 0
    assert outcome.rows[1] == {
        "endpoint": server,
        "device": 1,
        "memory_free_bytes": 3 * GIB,
        "memory_used_bytes": GIB,
        "memory_total_bytes": 4 * GIB,
        "note": None,
    }


def test_mem_in_a_terminal_is_a_table(typed, server: str) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = typed("mem", server)
    assert code == 0
    assert "\x1b[1mENDPOINT" in out
    code, out, _ = typed("mem", server, width=20)
    assert out.startswith(f"ENDPOINT  {server}\nDEVICE    0\nFREE      3.0 GiB\n")


def test_headers_can_be_left_out(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    assert "ENDPOINT" not in piped("mem", server, "--no-headers").out


@pytest.mark.parametrize("command", ["probe", "mem"])
def test_endpoints_may_be_listed_with_commas(piped, server: str, command: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped(command, f"{server},{server}", server, "--json")
    assert outcome.code == 0
    assert [row["device"] for row in outcome.rows] == [0, 1] * 3


def test_old_version_is_found_out_or_given(piped) -> None:  # type: ignore[no-untyped-def]
    with running(dialects=(V3_6_1,)) as endpoint:
        for extra in ([], ["--protocol", "3.6.1"], ["--protocol", "3"]):
            (row,) = piped("probe", str(endpoint), "--json", *extra).rows
            assert row["protocol"] == "3.6.1"


@pytest.mark.parametrize("command", ["probe", "mem"])
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["a:b"], "'a:b' is not a valid endpoint: write host:port, [v6]:port or host"),
        (["a,"], "'' is not a valid endpoint: write host:port, [v6]:port or host"),
        (
            ["a", "--protocol", "9"],
            f"protocol '9' is not supported: use one of {supported_versions()}",
        ),
    ],
)
def test_invalid_request_exits_2_and_connects_to_no_server(  # type: ignore[no-untyped-def]
    piped, command: str, arguments: list[str], line: str
) -> None:
    assert piped(command, *arguments) == (2, "", f"ggrpc: error: {line}\n")


@pytest.mark.parametrize("command", ["probe", "mem"])
def test_unreachable_server_exits_3(piped, unreachable: str, command: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = piped(command, unreachable)
    assert (code, out) == (3, "")
    assert err.startswith(f"ggrpc: error: cannot connect to {unreachable}: ")
    assert err.count("\n") == 1


def test_silent_server_exits_4(piped) -> None:  # type: ignore[no-untyped-def]
    with stranger(None) as endpoint:
        code, out, err = piped("mem", endpoint, "--timeout", "0.2")
    assert (code, out) == (4, "")
    assert f"{endpoint} accepts connections but did not answer within 0.2 s" in err


def test_timeout_of_nothing_still_names_the_server(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("mem", server, "--timeout", "0")
    assert code == 4
    assert server in err


def test_server_that_speaks_something_else_exits_5(piped) -> None:  # type: ignore[no-untyped-def]
    with stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9) as endpoint:
        code, out, err = piped("probe", endpoint)
    assert (code, out) == (5, "")
    assert endpoint in err
    assert err.count("\n") == 1


def test_server_of_an_unknown_version_exits_5(piped) -> None:  # type: ignore[no-untyped-def]
    unknown = (28).to_bytes(8, "little") + bytes([6, 1, 0]) + bytes(25)
    with stranger(unknown) as endpoint:
        code, _, err = piped("probe", endpoint)
    assert code == 5
    assert (
        f"{endpoint} speaks protocol 6.1.0; ggrpc speaks {supported_versions()}" in err
    )


def test_server_that_hangs_up_exits_6(piped) -> None:  # type: ignore[no-untyped-def]
    with stranger(b"") as endpoint:
        code, out, err = piped("probe", endpoint)
    assert (code, out) == (6, "")
    assert endpoint in err


def test_server_without_devices_exits_6(piped, server, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(Client, "device_count", lambda client: 0)
    code, out, err = piped("mem", server)
    assert (code, out) == (6, "")
    assert err == f"ggrpc: error: {server}: this server has no devices\n"


def test_server_that_claims_endless_devices_times_out(  # type: ignore[no-untyped-def]
    piped, server, monkeypatch
) -> None:
    monkeypatch.setattr(Client, "device_count", lambda client: 1 << 32)
    monkeypatch.setattr(Client, "memory", lambda client, device: (0, 0))
    monkeypatch.setattr("ggrpc.commands.mem._memory", lambda client, device: {})
    assert piped("mem", server, "--timeout", "0.2").code == 4


@pytest.mark.parametrize("command", ["probe", "mem"])
def test_one_failure_among_several_exits_7_and_keeps_the_rest(  # type: ignore[no-untyped-def]
    piped, server: str, unreachable: str, command: str
) -> None:
    code, out, err = piped(command, server, unreachable, server, "--no-headers")
    assert code == 7
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines] == [server, server, unreachable, server, server]
    assert [line[-1] for line in lines] == ["-", "-", "unreachable", "-", "-"]
    assert err.startswith(f"ggrpc: error: cannot connect to {unreachable}: ")


def test_each_failure_has_a_reason_in_its_row(
    piped, server: str, unreachable: str
) -> None:  # type: ignore[no-untyped-def]
    with (
        stranger(None) as silent,
        stranger(b"") as hanging_up,
        stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9) as web,
        native_of_version_9() as newer,
    ):
        servers = [server, silent, hanging_up, web, newer, unreachable]
        code, out, err = piped("mem", *servers, "--timeout", "0.5", "--no-headers")
    assert (code, err.count("\n")) == (7, 5)
    reasons = {
        line.split()[0]: line.split("  ")[-1].strip() for line in out.splitlines()
    }
    assert reasons == {
        server: "-",
        silent: "timeout",
        hanging_up: "hung up",
        web: "other protocol",
        newer: "other version",
        unreachable: "unreachable",
    }


def native_of_version_9() -> contextlib.AbstractContextManager[str]:
    return stranger((28).to_bytes(8, "little") + bytes([6, 1, 0]) + bytes(25))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_table_of_a_fleet_fits_the_terminal(  # type: ignore[no-untyped-def]
    typed, server: str, unreachable: str, width: int
) -> None:
    with (
        running(NoMaths(), host="127.0.0.1") as other,
        running(host="127.0.0.1") as third,
    ):
        servers = [server, str(other), str(third), unreachable]
        code, out, err = typed("probe", *servers, width=width)
    assert code == 7
    header, *lines = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()
    assert header.startswith("ENDPOINT ") and len(lines) == 5
    assert max(map(len, [header, *lines])) <= width
    for title in ("PROTOCOL", "FREE", "TOTAL", "REASON"):
        assert title in header
    assert ("LARGEST BUFFER" in header) == (width >= 100)
    assert ("left out" in err) == (width < 200)


def test_failure_is_a_json_row_in_its_place(
    piped, server: str, unreachable: str
) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("mem", unreachable, server, "--json")
    assert outcome.code == 7
    failed, well, _ = outcome.rows
    assert list(failed) == ["endpoint", "error", "exit_code"]
    assert (failed["endpoint"], failed["exit_code"]) == (unreachable, 3)
    assert f"ggrpc: error: {failed['error']}\n" == outcome.err
    assert well["endpoint"] == server


def test_all_failing_alike_exit_with_the_common_code(piped, unreachable: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = piped("mem", unreachable, unreachable, "--no-headers")
    assert (code, out.count("unreachable")) == (3, 2)
    assert err.count("\n") == 2


def test_all_failing_differently_exit_with_the_highest(piped, unreachable: str) -> None:  # type: ignore[no-untyped-def]
    with stranger(b"") as endpoint:
        assert piped("mem", endpoint, unreachable).code == 6


def test_slow_servers_are_waited_for_together(piped) -> None:  # type: ignore[no-untyped-def]
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(stranger(None)) for _ in range(20)]
        start = time.monotonic()
        outcome = piped("mem", "--timeout", "0.5", "--json", *slow)
        assert time.monotonic() - start < 5
    assert outcome.code == 4
    assert [row["endpoint"] for row in outcome.rows] == slow


def test_more_servers_than_threads_are_all_asked(piped, server: str) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("mem", "--json", *[server] * 150)
    assert outcome.code == 0
    assert len(outcome.rows) == 300


def test_bug_while_asking_is_not_swallowed(piped, server, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(Client, "device_count", lambda client: 1 / 0)
    code, _, err = piped("mem", server)
    assert code == 1
    assert "unexpected ZeroDivisionError" in err


def test_ctrl_c_does_not_wait_for_a_slow_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = "{}:{}".format(*listener.getsockname())
        process = subprocess.Popen(
            [sys.executable, "-m", "ggrpc", "mem", endpoint, "--timeout", "60"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)  # it has sent its request, and waits
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "ggrpc: error: interrupted after 0 of 1 servers\n"


def test_ctrl_c_shows_the_answers_that_are_there(server: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = "{}:{}".format(*listener.getsockname())
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ggrpc", "mem", "--json", "--timeout", "60"),
                *(server, silent, server),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = listener.accept()
        with connection:
            connection.recv(1)
            time.sleep(1)  # the other servers reply meanwhile
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            out, err = process.communicate(timeout=20)
            assert time.monotonic() - start < 5
    assert process.returncode == 130
    assert [json.loads(line)["device"] for line in out.splitlines()] == [0, 1] * 2
    assert err == "ggrpc: error: interrupted after 2 of 3 servers\n"


def test_ctrl_c_among_very_many_servers_ends_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = "{}:{}".format(*listener.getsockname())
        many = "127.[0-9].[0-99].[1-99]:1"
        process = subprocess.Popen(
            [sys.executable, "-m", "ggrpc", "mem", silent, many, "--timeout", "60"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        listener.accept()[0].close()
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - start < 10
    assert process.returncode == 130
    assert re.search(r"interrupted after \d+ of 99001 servers\n$", err)


def test_servers_have_a_progress_bar_in_a_terminal(server: str) -> None:
    terminal = Terminal()
    code = run(["mem", server, server], Environment(io.StringIO(), terminal))
    assert code == 0
    assert "servers" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()


@contextlib.contextmanager
def slow(seconds: float) -> Iterator[str]:
    """A server that replies to each request after some seconds."""

    def delayed(session: Session, request: Any, link: Any) -> Any:
        time.sleep(seconds)
        return handle(session, request, link)

    handle = Session.handle
    with pytest.MonkeyPatch.context() as patched, running(host="127.0.0.1") as server:
        patched.setattr(Session, "handle", delayed)
        yield str(server)


@pytest.mark.parametrize("command", ["probe", "mem", "push"])
def test_timeout_is_for_all_answers_together(  # type: ignore[no-untyped-def]
    piped, command: str, tmp_path: Path
) -> None:
    array = tmp_path / "one.npy"
    np.save(array, np.zeros(4, np.float32))
    files = [str(array)] if command == "push" else []
    with slow(0.35) as server:
        start = time.monotonic()
        code, _, err = piped(command, *files, server, "--timeout", "0.6")
        assert time.monotonic() - start < 4
    assert code == 4
    assert "within 0.6 s" in err


@pytest.mark.parametrize(
    ("version", "protocol"),
    [("0.3.17", "3.6.1"), ("0.3.36", "7.0.0"), (NEWEST_PEER, "8.0.0")],
)
def test_native_servers_are_probed(piped, version: str, protocol: str) -> None:  # type: ignore[no-untyped-def]
    peer_python(version)
    with native_serving(version) as endpoint:
        (row,) = piped("probe", str(endpoint), "--json").rows
        text = piped("probe", str(endpoint)).out
    assert row["protocol"] == protocol
    assert row["memory_total_bytes"] > GIB
    assert "  no limit  " in text


def test_interrupt_beside_the_last_answer_is_not_lost() -> None:
    """Else 'push --hold' would go on and wait for the next Ctrl-C."""

    def interrupted(count: int) -> None:
        raise KeyboardInterrupt

    servers = [Endpoint("a", 1), Endpoint("b", 1)]
    assert len(all_at_once(str, servers, interrupted)) == 1
    with pytest.raises(KeyboardInterrupt):
        all_at_once(str, servers[:1], interrupted)
