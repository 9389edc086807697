"""Commands that end early, or in full, leave servers and their clients as they were."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.net.tls import client_context
from tests.support.certificates import make_certificates
from tests.support.clients import computes, serves
from tests.support.command_lines import (
    FORWARDING,
    LINES,
    UNTIL_STOPPED,
    Files,
    files_in,
)
from tests.support.command_processes import NO_VARIABLES, RunningCommand
from tests.support.paths import NEWEST, peer_python, shared
from tests.support.processes import generate, native_serving, serving
from tests.support.recordings import recording

# Releases of llama.cpp's own server; "" is ggrpc's.
SERVERS = (NEWEST, "0.3.36", "0.3.17", "0.3.16", "0.3.35", "")
TO_THE_END = 30.0  # seconds of --timeout
TOO_SHORT = 0.4

ENDING = [name for name in LINES if name != "push --hold"]  # only a signal ends it
LIMITED = [name for name in ENDING if "{timeout" in LINES[name] or name in FORWARDING]


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


def end_all(server: Endpoint, files: Files, number: signal.Signals) -> None:
    """Run all commands at once, and send each of them a signal while it is at work."""
    commands = [RunningCommand(name, server, files, TO_THE_END) for name in LINES]
    for command in commands:
        command.interrupt(number)
    for command in commands:
        command.end()


def assert_serves(release: str, server: Endpoint, folder: Path) -> None:
    """A stock client generates at its first try."""
    tokens, _ = generate(release or NEWEST, model(), folder / "out.npy", 1, server)
    assert len(tokens) > 1


def test_idle_server_serves_after_commands(
    release: str, files: Files, tmp_path: Path
) -> None:
    with server_of(release) as server:
        assert_serves(release, server, tmp_path)
        for name in ENDING:
            RunningCommand(name, server, files, TO_THE_END).end()
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
                for command in [
                    RunningCommand(name, server, files, TOO_SHORT) for name in LIMITED
                ]:
                    command.end()
            else:
                end_all(server, files, signal.Signals[end])
            busy.alignment()
        assert_serves(release, server, tmp_path)
