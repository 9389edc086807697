"""Commands that end early, or in full, leave servers and their clients as they were."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.support.command_lines import LINES, Files, files_in
from tests.support.command_processes import RunningCommand
from tests.support.paths import NEWEST, peer_python, shared
from tests.support.processes import generate, native_serving, serving
from tests.support.recordings import recording

# Releases of llama.cpp's own server; "" is ggrpc's.
SERVERS = (NEWEST, "0.3.36", "0.3.17", "0.3.16", "0.3.35", "")
SIGNALS = ("SIGINT", "SIGKILL")
TO_THE_END = 30.0  # seconds of --timeout
TOO_SHORT = 0.4


@pytest.fixture(params=SERVERS, ids=lambda release: release or "ggrpc")
def release(request: pytest.FixtureRequest) -> str:
    if request.param:
        peer_python(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """What the commands read; every server has the ops of the oldest client."""
    folder = tmp_path_factory.mktemp("files")
    path = folder / "graph.bin"
    with (
        serving("--protocol", "2.0") as served,
        recording(served.endpoint, path) as recorder,
    ):
        generate("0.3.16", model(), folder / "out.npy", 1, recorder.endpoint)
    return files_in(folder, path)


@contextlib.contextmanager
def server_of(release: str) -> Iterator[Endpoint]:
    if release:
        with native_serving(release) as endpoint:
            yield endpoint
    else:
        with serving() as served:
            yield served.endpoint


def model() -> Path:
    return shared("peer/models/micro_f16.gguf")


def assert_serves(release: str, server: Endpoint, folder: Path) -> None:
    """A stock client generates at its first try."""
    tokens, _ = generate(release or NEWEST, model(), folder / "out.npy", 1, server)
    assert len(tokens) > 1


def run(command: str, end: str, server: Endpoint, files: Files) -> None:
    """Run a command until it ends, its time is over, or a signal interrupts it."""
    timeout = TOO_SHORT if end == "timeout" else TO_THE_END
    running = RunningCommand(command, server, files, timeout)
    if end in SIGNALS or command == "push --hold":  # only a signal ends that one
        running.interrupt(signal.Signals[end if end in SIGNALS else "SIGINT"])
    running.end()


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("end", ["by itself", *SIGNALS])
def test_idle_server_serves_after_a_command(
    release: str, end: str, command: str, files: Files, tmp_path: Path
) -> None:
    with server_of(release) as server:
        run(command, end, server, files)
        assert_serves(release, server, tmp_path)


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("end", ["timeout", *SIGNALS])
def test_busy_server_serves_after_a_command_gave_up(
    release: str, end: str, command: str, files: Files, tmp_path: Path
) -> None:
    """One command at a time: llama.cpp's server has a backlog of two connections."""
    with server_of(release) as server:
        with connect(server, timeout=60) as busy:
            busy.alignment()
            run(command, end, server, files)
            busy.alignment()
        assert_serves(release, server, tmp_path)
