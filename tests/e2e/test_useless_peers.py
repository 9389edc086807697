"""Commands on peers that are of no use: they end in time, and say what the peer is."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.main import CLIENT_COMMANDS
from ggrpc.endpoint import Endpoint
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import V7_0_1, V8_0_0, Dialect
from tests.support.certificates import make_certificates
from tests.support.clients import serves
from tests.support.command_lines import (
    ASKS,
    FORWARDING,
    LINES,
    Files,
    dialect_of,
    files_in,
)
from tests.support.command_processes import RunningCommand
from tests.support.lying_server import SLOW, lying
from tests.support.peers import drip, http_server, peer, until_closed
from tests.support.processes import serving
from tests.support.recordings import recorded_here
from tests.support.servers import running
from tests.support.waiting import wait_until

# A signal may also meet the interpreter before or after the command is at work.
INTERRUPTED = (ExitCode.INTERRUPTED, -signal.SIGINT)
PATIENT = 30.0  # seconds of --timeout
IMPATIENT = 1.0


class Useless(NamedTuple):
    """A kind of peer.

    Attributes:
        opened: makes one, given a folder for files.
        code: how a command ends that asks it.
        told: what such a command says.
        logged: what a tunnel logs, "" if it waits longer than its client.
        answers: whether a command ends before its timeout.
    """

    opened: Callable[[Path], AbstractContextManager[Endpoint]]
    code: ExitCode
    told: str
    logged: str = ""
    answers: bool = True


@contextlib.contextmanager
def tls_server(folder: Path) -> Iterator[Endpoint]:
    with serving("--tls-cert", make_certificates(folder).server) as served:
        yield served.endpoint


PEERS = {
    "hung": Useless(
        lambda _: peer(until_closed),
        ExitCode.TIMEOUT,
        "accepts connections but did not answer within 1 s",
        answers=False,
    ),
    "dripping": Useless(
        lambda _: peer(drip),
        ExitCode.TIMEOUT,
        "sent only a part of its answer to HELLO within 1 s",
        "answers without TLS",
        answers=False,
    ),
    "HTTP": Useless(
        lambda _: http_server(),
        ExitCode.PROTOCOL,
        "speaks HTTP",
        "answers without TLS",
        answers=False,
    ),
    "TLS": Useless(
        tls_server,
        ExitCode.PROTOCOL,
        "speaks TLS, add --tls",
        "name its CA with --tls-ca",
    ),
}


@pytest.fixture(scope="module")
def honest() -> Iterator[dict[Dialect, Endpoint]]:
    """A server of each dialect."""
    with ExitStack() as stack:
        yield {
            dialect: stack.enter_context(running(dialects=(dialect,), host="127.0.0.1"))
            for dialect in (V7_0_1, V8_0_0)
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    return files_in(folder, recorded_here(folder / "graph.bin"))


def test_every_command_that_connects_to_servers_is_in_the_matrix() -> None:
    assert {name.split()[0] for name in LINES} == CLIENT_COMMANDS


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("kind", PEERS)
def test_command_ends_by_itself_and_says_what_the_peer_is(
    kind: str, command: str, files: Files, tmp_path: Path
) -> None:
    useless = PEERS[kind]
    timeout = PATIENT if useless.answers else IMPATIENT
    with useless.opened(tmp_path) as server:
        ended = RunningCommand(command, server, files, timeout).end()
    assert ended.err.count("\n") == 1
    if command == "pull":  # asks the process that holds tensors, not the server
        assert ended.code == ExitCode.REFUSED
    elif command == "tunnel":  # speaks TLS, and its client does not know with whom
        assert ended.code in (useless.code, ExitCode.REFUSED)
        assert useless.logged in ended.log
    else:
        assert ended.code == useless.code, ended.err
        assert useless.told in ended.err


@pytest.mark.parametrize("command", LINES)
@pytest.mark.parametrize("kind", PEERS)
def test_command_can_be_interrupted(
    kind: str, command: str, files: Files, tmp_path: Path
) -> None:
    useless = PEERS[kind]
    with useless.opened(tmp_path) as server:
        command_at_work = RunningCommand(command, server, files, PATIENT)
        command_at_work.interrupt()
        ended = command_at_work.end()
    assert ended.err.count("\n") <= 1
    if command == "pull":
        assert ended.code == ExitCode.REFUSED
    elif command in FORWARDING:  # its client finds the connection or the port closed
        assert ended.code in (useless.code, ExitCode.REFUSED, ExitCode.UNREACHABLE)
    elif useless.answers:  # the answer may be there before the signal
        assert ended.code in (useless.code, *INTERRUPTED)
    else:
        assert ended.code in INTERRUPTED, ended.err


@pytest.mark.parametrize(
    ("command", "about"),
    [
        pytest.param(command, about, id=f"{command}-{about.name}")
        for command, asked in ASKS.items()
        for about in asked
    ],
)
def test_command_can_be_interrupted_at_each_request(
    command: str, about: Command, honest: dict[Dialect, Endpoint], files: Files
) -> None:
    """A server that answers all but one does not keep it, and is as it was."""
    dialect = dialect_of(about)
    with lying(honest[dialect], dialect, about, SLOW["never"]) as server:
        command_at_work = RunningCommand(command, server.endpoint, files, PATIENT)
        wait_until(lambda: server.lies, 60)
        command_at_work.interrupt()
        ended = command_at_work.end()
    assert ended.code in INTERRUPTED, ended.err
    assert ended.err.count("\n") <= 1
    assert serves(honest[dialect])
