"""Starting and stopping `ggrpc serve`, under systemd and with endless graphs."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.support.clients import squares
from tests.support.processes import START_SECONDS, Served
from tests.support.waiting import wait_until


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A socket like that on which systemd receives notifications."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.settimeout(START_SECONDS)
        yield sock


def test_supervisor_is_notified_of_start_and_stop(
    supervisor: socket.socket, tmp_path: Path
) -> None:
    served = Served(["--threads", "1"], str(tmp_path))
    assert supervisor.recv(100) == b"READY=1"
    socket.create_connection(served.endpoint, 10).close()
    assert served.stop() == 0
    assert supervisor.recv(100) == b"STOPPING=1"


def test_hangup_changes_nothing_without_certificates(tmp_path: Path) -> None:
    """An operator reloads a service; no terminal was closed."""
    served = Served(["-d", "cpu"], str(tmp_path))
    with connect(served.endpoint, timeout=20) as session:
        session.alignment()
        served.process.send_signal(signal.SIGHUP)
        served.wait_for_line("INFO SIGHUP has nothing to read again without --tls-cert")
        assert session.alignment()
        connect(served.endpoint, timeout=20).close()
    assert served.stop() == 0


@pytest.mark.parametrize(
    "arguments", [("serve", "-p", "0", "-d", "cpu"), ("tunnel", "0", "127.0.0.1:1")]
)
def test_closed_terminal_stops_the_process(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """The process is that of the terminal's session, which gets SIGHUP."""
    log = tmp_path / "log"
    log.touch()
    pid, terminal = pty.fork()
    if not pid:  # the child
        os.environ["XDG_STATE_HOME"] = str(tmp_path)
        os.dup2(os.open(log, os.O_WRONLY), 2)
        os.execv(sys.executable, [sys.executable, "-m", "ggrpc", *arguments])
    try:
        wait_until(lambda: "listening on" in log.read_text(), START_SECONDS)
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert log.read_text().endswith("stopped\n")


# The real command with a device that never stops computing, with or without
# checkpoints. It writes a line to stderr when the first graph begins.
BUSY = """
import sys
from ggrpc.commands.main import main
from ggrpc.devices import catalogue
from tests.support.devices import Endless
checkpoints = sys.argv.pop(1) == "checkpoints"
said = []
def ends():
    if not said:
        said.append(print("computing", file=sys.stderr, flush=True))
    return False
catalogue._open_cpu = lambda choices: Endless(ends, checkpoints)
main()
"""


class Busy(NamedTuple):
    """A server process with an endless graph, and its address."""

    process: subprocess.Popen[str]
    endpoint: Endpoint


@contextmanager
def busy(checkpoints: str, *arguments: str) -> Iterator[Busy]:
    command = [sys.executable, "-c", BUSY, checkpoints, "serve", "-p", "0", "-d", "cpu"]
    process = subprocess.Popen(
        [*command, *arguments], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = next(line for line in process.stderr if "listening on" in line)
    endpoint = Endpoint.parse(line.split("listening on ")[1].strip())
    with process, connect(endpoint, timeout=20) as client:
        client.compute(squares(client)[1])
        assert any("computing" in line for line in process.stderr)
        yield Busy(process, endpoint)


def is_open(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection(endpoint, 10).close()
    except ConnectionError:
        return False
    return True


def test_stop_cancels_what_has_not_ended_after_the_grace() -> None:
    with busy("checkpoints", "--grace", "0.2") as server:
        server.process.terminate()
        _, err = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert err.count("1 sessions are cut off (--grace)") == 1
    assert err.endswith(" INFO stopped\n")


def test_second_signal_ends_the_process_immediately() -> None:
    with busy("checkpoints") as server:
        server.process.terminate()
        wait_until(lambda: not is_open(server.endpoint))
        assert server.process.poll() is None
        server.process.terminate()
        server.process.communicate(timeout=10)
    assert server.process.returncode == -signal.SIGTERM


def test_session_that_cannot_be_ended_does_not_keep_the_process() -> None:
    with busy("no checkpoints", "--grace", "0.1") as server:
        server.process.terminate()
        _, err = server.process.communicate(timeout=60)
    assert server.process.returncode == 1
    assert "ERROR 1 sessions did not end: the process exits now" in err
