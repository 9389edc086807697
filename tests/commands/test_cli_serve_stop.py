"""How `ggrpc serve` starts and stops under a supervisor."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.engine.server.test_faults import squares
from tests.support.processes import START_SECONDS, Served


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """The socket that a supervisor listens on."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(START_SECONDS)
        yield sock


def test_supervisor_hears_when_it_is_ready_and_when_it_stops(
    supervisor: socket.socket, tmp_path: Path
) -> None:
    served = Served(["--threads", "1"], str(tmp_path))
    assert supervisor.recv(100) == b"READY=1"
    socket.create_connection(served.endpoint, 10).close()
    assert served.stop() == 0
    assert supervisor.recv(100) == b"STOPPING=1"


# A device that never stops computing, with or without checkpoints, behind the real
# command.
BUSY = """
import sys
from ggrpc.commands.main import main
from ggrpc.devices import catalogue
from tests.support.devices import Endless
pauses = sys.argv.pop(1) == "pauses"
catalogue._open_cpu = lambda choices: Endless(lambda: False, pauses)
main()
"""


@contextmanager
def busy(pauses: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server that computes without end."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            BUSY,
            pauses,
            "serve",
            "-p",
            "0",
            "-d",
            "cpu",
            *arguments,
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = next(line for line in process.stderr if "listening on" in line)
    endpoint = Endpoint.parse(line.split("listening on ")[1].strip())
    with process, connect(endpoint, timeout=20) as client:
        client.compute(squares(client)[1])
        time.sleep(0.5)  # until it has come to the graph
        yield process


def test_stop_gives_up_what_is_not_through_after_the_grace() -> None:
    with busy("pauses", "--grace", "0.2") as process:
        process.terminate()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "1 sessions are cut off (--grace)" in err
    assert err.endswith(" INFO stopped\n")


def test_second_signal_ends_it_at_once() -> None:
    with busy("pauses") as process:
        process.terminate()
        time.sleep(0.5)
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM


def test_session_that_cannot_be_ended_does_not_keep_the_process() -> None:
    with busy("never pauses", "--grace", "0.1") as process:
        process.terminate()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ERROR 1 sessions did not end: the process exits now" in err
