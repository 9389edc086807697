"""Commands that complete or end early do no harm to servers and their clients."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.support.paths import NEWEST, peer_python, shared
from tests.support.processes import free_port, generate, native_serving, serving
from tests.support.waiting import wait_until

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

Files = dict[str, Path]
Process = subprocess.Popen[str]


@pytest.fixture(params=SERVERS, ids=lambda release: release or "ggrpc")
def release(request: pytest.FixtureRequest) -> str:
    if request.param:
        peer_python(request.param)
    return str(request.param)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files that commands read; the recording's ops exist in all versions."""
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


def ggrpc(*arguments: str) -> Process:
    # Without coverage, which a signal could interrupt while it saves its data.
    measured = ("COV_", "COVERAGE_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(measured)}
    return subprocess.Popen(
        [sys.executable, "-m", "ggrpc", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def start(command: str, server: Endpoint, files: Files, timeout: float) -> Process:
    line = COMMANDS[command].format(server=server, timeout=timeout, **files)
    return ggrpc(*line.split())


def finish(process: Process) -> None:
    """Wait for a command to end, and check that it reports no bug."""
    try:
        _, err = process.communicate("", timeout=60)
    finally:
        process.kill()
    assert "unexpected" not in err, err  # a signal may meet the interpreter at its end


def end_all(server: Endpoint, files: Files, number: signal.Signals) -> None:
    """Run all commands at the same time, and send each a signal while it works."""
    processes = [start(command, server, files, TO_THE_END) for command in COMMANDS]
    for process in processes:
        wait_until(partial(is_at_work, process, server), 60)
        process.send_signal(number)
    for process in processes:
        finish(process)


def is_at_work(process: Process, server: Endpoint) -> bool:
    """Whether a command has connected to the server, or has already ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        connections = psutil.Process(process.pid).net_connections("tcp")
        if not any(c.raddr and c.raddr.port == server.port for c in connections):
            return process.poll() is not None
    return True


def assert_serves(release: str, server: Endpoint, folder: Path) -> None:
    """Check that llama.cpp's client generates at its first try."""
    tokens, _ = generate(release or NEWEST, model(), folder / "out.npy", 1, server)
    assert len(tokens) > 1


def test_idle_server_serves_after_commands(
    release: str, files: Files, tmp_path: Path
) -> None:
    with server_of(release) as server:
        assert_serves(release, server, tmp_path)
        for command in COMMANDS:
            if command != "push --hold":  # only a signal ends it
                finish(start(command, server, files, TO_THE_END))
        for number in (signal.SIGINT, signal.SIGKILL):
            end_all(server, files, number)
        assert_serves(release, server, tmp_path)


@pytest.mark.parametrize("end", ["timeout", "SIGINT", "SIGKILL"])
def test_busy_server_serves_after_commands_gave_up(
    release: str, end: str, files: Files, tmp_path: Path
) -> None:
    with server_of(release) as server:
        with connect(server, timeout=60) as busy:
            busy.alignment()
            if end == "timeout":
                limited = [c for c, line in COMMANDS.items() if "--timeout" in line]
                limited.remove("push --hold")
                for process in [
                    start(command, server, files, TOO_SHORT) for command in limited
                ]:
                    finish(process)
            else:
                end_all(server, files, signal.Signals[end])
            busy.alignment()
        assert_serves(release, server, tmp_path)
