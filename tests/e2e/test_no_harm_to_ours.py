"""Commands on a server of ours that is full, or behind TLS, leave it as it was."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from ggrpc.commands.exit_codes import ExitCode
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.support.certificates import Certificates, make_certificates
from tests.support.clients import computes
from tests.support.command_lines import LINES, Files, files_in
from tests.support.command_processes import Ended, RunningCommand
from tests.support.paths import NEWEST, has_peer, shared
from tests.support.processes import Served, generate, serving, tunnel_to
from tests.support.recordings import recorded_here

CLIENTS = 4
TIMEOUTS = {"timeout": 0.2}  # seconds of --timeout
TO_THE_END = 30.0
SIGNALS = ("SIGINT", "SIGKILL")
ENDS = ("by itself", "timeout", *SIGNALS)


@contextlib.contextmanager
def all_connections(server: Endpoint) -> Iterator[None]:
    """Take every connection; one that holds memory is not evicted."""
    with ExitStack() as stack:
        for _ in range(CLIENTS):
            stack.enter_context(connect(server, timeout=20)).allocate(1 << 10)
        yield


@contextlib.contextmanager
def all_memory(server: Endpoint) -> Iterator[None]:
    """Take all memory that clients may have."""
    with connect(server, timeout=20) as client:
        client.allocate(client.memory().free)
        yield


class Full(NamedTuple):
    """A server that has no more of something.

    Attributes:
        flags: of `ggrpc serve`.
        occupied: takes all there is.
        codes: how a command may end that is given time.
    """

    flags: tuple[str, ...]
    occupied: Callable[[Endpoint], AbstractContextManager[None]]
    codes: Collection[ExitCode]


FULL = {
    "of connections": Full(
        ("--max-clients", str(CLIENTS)), all_connections, {ExitCode.REFUSED}
    ),
    "of memory": Full(
        ("--max-memory", "64M"),
        all_memory,
        {ExitCode.OK, ExitCode.CHECK_FAILED, ExitCode.DEVICE, ExitCode.REFUSED},
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    return files_in(folder, recorded_here(folder / "graph.bin"))


@pytest.fixture(scope="module")
def full_servers() -> Iterator[dict[str, Served]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving(*full.flags))
            for name, full in FULL.items()
        }


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_server(
    certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    flags = ("--tls-cert", certificates.server, "--tls-client-ca", certificates.ca)
    cache = str(tmp_path_factory.mktemp("cache"))
    with serving("-c", "--cache-dir", cache, *flags) as served:
        yield served


def finish(running: RunningCommand, command: str, end: str) -> Ended:
    """Let a command end in one of the `ENDS`."""
    if end in SIGNALS or command == "push --hold":  # only a signal ends that one
        running.interrupt(signal.Signals[end if end in SIGNALS else "SIGINT"])
    return running.end()


def assert_serves(served: Served, server: Endpoint, folder: Path) -> None:
    """A client is served at its first try: a stock one, where it is installed.

    Args:
        served: the server.
        server: where it, or a tunnel to it, listens.
        folder: for a file.
    """
    print(served.log)  # shown if the client fails
    if has_peer(NEWEST):
        model, out = shared("peer/models/micro_f16.gguf"), folder / "out.npy"
        assert len(generate(NEWEST, model, out, 1, server)[0]) > 1
    else:
        with connect(server, timeout=20) as client:
            assert computes(client)


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("full", FULL)
def test_full_server_serves_later(
    full: str,
    end: str,
    command: str,
    full_servers: dict[str, Served],
    files: Files,
    tmp_path: Path,
) -> None:
    served = full_servers[full]
    server = served.endpoint
    with FULL[full].occupied(server):
        timeout = TIMEOUTS.get(end, TO_THE_END)
        ended = finish(RunningCommand(command, server, files, timeout), command, end)
    assert ended.err.count("\n") <= 1, ended.err
    if end == "by itself":
        assert ended.code in {*FULL[full].codes, *interrupted(command)}, ended.err
    assert_serves(served, server, tmp_path)


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("end", ENDS)
def test_server_behind_tls_serves_later(
    end: str,
    command: str,
    tls_server: Served,
    certificates: Certificates,
    files: Files,
    tmp_path: Path,
) -> None:
    variables = {
        "GGRPC_TLS_CA": certificates.ca,
        "GGRPC_TLS_CERT": certificates.client,
    }
    timeout = TIMEOUTS.get(end, TO_THE_END)
    running = RunningCommand(command, tls_server.endpoint, files, timeout, variables)
    ended = finish(running, command, end)
    if end == "by itself" and command != "pull":  # of which no process holds tensors
        assert ended.code in {ExitCode.OK, *interrupted(command)}, ended.err
    with tunnel_to(tls_server.endpoint, certificates) as (_, plain):
        assert_serves(tls_server, plain, tmp_path)


def interrupted(command: str) -> Collection[int]:
    """How a command ends besides that only a signal ends."""
    if command == "push --hold":
        return {ExitCode.INTERRUPTED, -signal.SIGINT}
    return ()
