"""Commands that end early, or in full, leave servers and their clients as they were."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.support.paths import NEWEST, peer_python, shared
from tests.support.processes import free_port, generate, native_serving, serving

# Releases of llama.cpp's own server; "" is ggrpc's.
SERVERS = (NEWEST, "0.3.36", "0.3.17", "0.3.16", "0.3.35", "")
COMMANDS = {
    "probe": "probe {server} --timeout {timeout}",
    "mem": "mem {server} --timeout {timeout}",
    "check": "check {server} --timeout {timeout}",
    "bench": "bench {server} --timeout {timeout} --rounds 1 --sizes 4K",
    "push": "push {array} {server} --timeout {timeout}",
    "push --hold": "push {array} {server} --hold --timeout {timeout}",
    "pull": "pull {server}",
    "shell": "shell {server} --timeout {timeout}",
    "replay": "replay {recording} {server} --timeout {timeout}",
}
TO_THE_END = 30.0  # seconds of --timeout
TOO_SHORT = 0.4


@pytest.fixture(params=SERVERS, ids=lambda release: release or "ggrpc")
def release(request: pytest.FixtureRequest) -> str:
    if request.param:
        peer_python(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the commands read; every server has the ops of the oldest client."""
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "array.npy", np.ones((8, 64), np.float32))
    recording = folder / "graph.bin"
    with (
        serving("--protocol", "2.0") as served,
        record(served.endpoint, recording) as near,
    ):
        generate("0.3.16", model(), folder / "out.npy", 1, near)
    return {"array": folder / "array.npy", "recording": recording}


@contextlib.contextmanager
def record(server: Endpoint, path: Path) -> Iterator[Endpoint]:
    near = Endpoint("127.0.0.1", free_port())
    process = ggrpc("record", str(near), str(server), "-o", str(path))
    assert process.stderr is not None
    while "listening" not in process.stderr.readline():
        assert process.poll() is None
    yield near
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


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


def ggrpc(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ggrpc", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    command: str,
    server: Endpoint,
    files: dict[str, Path],
    timeout: float,
    end: signal.Signals | None = None,
) -> None:
    """Run a command to its end, or until it gets a signal while it is at work."""
    line = COMMANDS[command].format(server=server, timeout=timeout, **files)
    process = ggrpc(*line.split())
    if end is not None:
        time.sleep(1.0)
        process.send_signal(end)
    try:
        _, err = process.communicate("memory\n" if command == "shell" else "", 60)
    finally:
        process.kill()
    assert "unexpected" not in err


def serves_a_stock_client(release: str, server: Endpoint, folder: Path) -> None:
    """A stock client generates at its first try."""
    tokens, _ = generate(release or NEWEST, model(), folder / "out.npy", 1, server)
    assert len(tokens) > 1


@pytest.mark.parametrize("command", COMMANDS)
def test_idle_server_serves_after_a_command(
    release: str, command: str, files: dict[str, Path], tmp_path: Path
) -> None:
    with server_of(release) as server:
        serves_a_stock_client(release, server, tmp_path)
        if command != "push --hold":  # it ends with a signal only
            run(command, server, files, TO_THE_END)
        for end in (signal.SIGINT, signal.SIGKILL):
            run(command, server, files, TO_THE_END, end)
        serves_a_stock_client(release, server, tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_busy_server_serves_after_a_command_gave_up(
    release: str, command: str, files: dict[str, Path], tmp_path: Path
) -> None:
    with server_of(release) as server:
        with connect(server, timeout=60) as busy:
            busy.alignment()
            if command not in ("pull", "push --hold"):  # they have no limit
                run(command, server, files, TOO_SHORT)
            for end in (signal.SIGINT, signal.SIGKILL):
                run(command, server, files, TO_THE_END, end)
            busy.alignment()
        serves_a_stock_client(release, server, tmp_path)
