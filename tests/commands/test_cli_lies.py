"""No false reply of a server breaks a client command.

The command ends in time, in bounded memory, with one line that reports no bug.
"""

from __future__ import annotations

import io
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from ggrpc.commands.environment import Environment
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.main import run
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache import warming
from ggrpc.engine.client import bench
from ggrpc.engine.client.registry import connect
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.proxy import Proxy
from ggrpc.engine.net.tls import TlsStream, client_context
from ggrpc.engine.recording.recorder import Recorder, RecorderSettings
from ggrpc.engine.sharing.session_sharing import SharingServer
from ggrpc.engine.sharing.upload import UploadedTensors
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import V7_0_1, V8_0_0, Dialect
from ggrpc.errors import GgrpcError, VersionMismatch
from tests.support.certificates import make_certificates
from tests.support.command_lines import (
    ASKS,
    MEMORY,
    OPENING,
    SHELL,
    Files,
    arguments,
    dialect_of,
    files_in,
)
from tests.support.lying_server import (
    GONE,
    SLOW,
    WRONG_SIZES,
    WRONG_VALUES,
    Lie,
    LyingServer,
    framed,
    lying,
)
from tests.support.recordings import compute, recorded_here
from tests.support.runtime_dir import xdg_runtime_dir  # noqa: F401  a fixture
from tests.support.servers import running

C = Command
PAIRS = [
    pytest.param(command, about, id=f"{command}-{about.name}")
    for command, asked in ASKS.items()
    for about in asked
]
FAILURES = {*ExitCode} - {ExitCode.OK, ExitCode.INTERRUPTED}

SECONDS = 30.0
GROWTH = 200 << 10  # KiB


class Setting(NamedTuple):
    """Servers and files for the commands.

    Attributes:
        honest: a server of each dialect.
        files: the files in the command lines.
    """

    honest: dict[Dialect, Endpoint]
    files: Files


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    folder = tmp_path_factory.mktemp("lies")
    files = files_in(folder, recorded_here(folder / "x.bin"))
    with ExitStack() as stack:
        honest = {
            dialect: stack.enter_context(running(dialects=(dialect,), host="127.0.0.1"))
            for dialect in (V7_0_1, V8_0_0)
        }
        yield Setting(honest, files)


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WORKLOAD_SECONDS", 0.0)


class Told(NamedTuple):
    """The outcome of a command that got false replies."""

    code: int
    err: str
    lies: int


def tell(
    setting: Setting, command: str, about: Command, lie: Lie | None, timeout: float = 20
) -> Told:
    """Run a command on a lying server, and check its time, memory and message."""
    dialect = dialect_of(about)
    stdout, stderr = io.StringIO(), io.StringIO()
    environment = Environment(stdout, stderr, stdin=io.StringIO(SHELL))
    with lying(setting.honest[dialect], dialect, about, lie) as server:
        line = arguments(command, server.endpoint, setting.files, timeout)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.monotonic()
        code = run(line, environment)
        seconds = time.monotonic() - start
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    err = stderr.getvalue()
    assert seconds < SECONDS, err
    assert growth < GROWTH, err
    assert "unexpected" not in err
    assert err.count("\n") <= 1
    return Told(code, err, server.lies)


@pytest.mark.parametrize(("command", "about"), PAIRS)
def test_truth(setting: Setting, command: str, about: Command) -> None:
    """Check that the commands succeed and send the requests that this file lists."""
    told = tell(
        setting,
        command,
        about,
        lambda client, payload: client.sendall(
            struct.pack("<Q", len(payload)) + payload
        ),
    )
    assert told.lies
    if command != "push model":  # the server has no cache
        assert (told.code, told.err) == (0, "")


@pytest.mark.parametrize("lie", WRONG_SIZES.values(), ids=WRONG_SIZES)
@pytest.mark.parametrize(("command", "about"), PAIRS)
def test_wrong_size(setting: Setting, command: str, about: Command, lie: Lie) -> None:
    told = tell(setting, command, about, lie)
    assert told.lies
    if command == "check" and about not in OPENING:
        assert told.code in (ExitCode.CHECK_FAILED, ExitCode.PROTOCOL)
    else:
        assert told.code == ExitCode.PROTOCOL, told.err
        assert about.name in told.err


@pytest.mark.parametrize("lie", WRONG_VALUES.values(), ids=WRONG_VALUES)
@pytest.mark.parametrize(("command", "about"), PAIRS)
def test_wrong_value(setting: Setting, command: str, about: Command, lie: Lie) -> None:
    told = tell(setting, command, about, lie)
    assert told.lies
    assert told.code in FAILURES or not told.err


@pytest.mark.parametrize("lie", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize(("command", "about"), PAIRS)
def test_slow(setting: Setting, command: str, about: Command, lie: Lie) -> None:
    told = tell(setting, command, about, lie, timeout=1)
    assert told.lies
    assert told.code in FAILURES


@pytest.mark.parametrize("lie", GONE.values(), ids=GONE)
@pytest.mark.parametrize(("command", "about"), PAIRS)
def test_gone(setting: Setting, command: str, about: Command, lie: Lie) -> None:
    told = tell(setting, command, about, lie)
    assert told.lies
    assert told.code in FAILURES
    if command != "check":
        assert told.code == ExitCode.REFUSED, told.err


@pytest.mark.parametrize(
    ("command", "about"),
    [
        ("bench", C.GET_ALIGNMENT),
        ("bench", C.GET_TENSOR),
        ("bench", C.GET_TENSOR_2D),
        ("push many", C.GET_TENSOR),
        ("push many", C.ALLOC_BUFFER),
        ("replay", C.GET_DEVICE_SUPPORTS_OP),
    ],
)
def test_server_that_answers_each_request_just_in_time(
    setting: Setting, command: str, about: Command
) -> None:
    """No single answer is late, so the requests together must have a limit."""

    def late(client: socket.socket, payload: bytes) -> None:
        time.sleep(1.6)
        client.sendall(framed(payload))

    told = tell(setting, command, about, late, timeout=2)
    assert told.code == ExitCode.TIMEOUT, told.err
    assert told.lies > 1
    assert f"did not answer {about.name}" in told.err


def test_server_that_stores_for_ever(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It replies late to each SET_TENSOR_HASH, as if it still wrote the tensor."""
    monkeypatch.setattr(warming, "PENDING_TIMEOUT", 0.2)

    def late(client, payload: bytes) -> None:  # type: ignore[no-untyped-def]
        time.sleep(0.15)
        client.sendall(struct.pack("<QB", 1, 0))

    told = tell(setting, "push model", C.SET_TENSOR_HASH, late, timeout=1)
    assert told.code == ExitCode.PROTOCOL
    assert "has not stored a tensor of 11.0 MiB after 2 s" in told.err


@contextmanager
def recording_of_lies(settings: RecorderSettings) -> Iterator[Endpoint]:
    """Record in this process; the recorder may refuse a server by its version."""
    recorder = Recorder(settings)
    errors: list[Exception] = []

    def record() -> None:
        try:
            recorder.run()
        except VersionMismatch:
            pass
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield recorder.endpoints[0]
    finally:
        recorder.stop()
        thread.join(SECONDS)
    assert not thread.is_alive()
    assert not errors


ALL = {**WRONG_SIZES, **WRONG_VALUES, **SLOW, **GONE}


@pytest.mark.parametrize("lie", ALL.values(), ids=ALL)
def test_pull(  # type: ignore[no-untyped-def]
    piped,
    xdg_runtime_dir: Path,  # noqa: F811
    setting: Setting,
    tmp_path: Path,
    lie: Lie,
) -> None:
    out = tmp_path / "x.npy"
    truth = setting.honest[V7_0_1]
    with lying(truth, V7_0_1, C.GET_TENSOR, None) as server:
        where = server.endpoint
        with connect(where, timeout=1) as session:
            uploaded = UploadedTensors(session.device())
            uploaded.push(setting.files.array, lambda count: None)
            with SharingServer(where, uploaded):
                server.lie = lie
                start = time.monotonic()
                outcome = piped("pull", str(where), "array", "-o", str(out))
                assert time.monotonic() - start < SECONDS
                assert server.lies
    assert "unexpected" not in outcome.err
    if outcome.code:
        assert (outcome.code, out.exists()) == (ExitCode.REFUSED, False)
    assert [path.name for path in tmp_path.iterdir()] == (["x.npy"] * out.exists())


QUICK = {**WRONG_SIZES, **WRONG_VALUES, **GONE}


@pytest.mark.parametrize("lie", QUICK.values(), ids=QUICK)
@pytest.mark.parametrize(
    "about", [*OPENING, *MEMORY, C.GET_TENSOR], ids=lambda command: command.name
)
def test_record(  # type: ignore[no-untyped-def]
    piped, setting: Setting, tmp_path: Path, about: Command, lie: Lie
) -> None:
    """A recording of false replies can be read, and the recorder keeps running."""
    path = tmp_path / "x.bin"

    with lying(setting.honest[V7_0_1], V7_0_1, about, lie) as server:
        settings = RecorderSettings(Endpoint("127.0.0.1", 0), server.endpoint, path)
        with recording_of_lies(settings) as listen, suppress(GgrpcError):
            compute(listen)
    outcome = piped("inspect", str(path))
    assert outcome.code in (ExitCode.OK, ExitCode.USAGE, ExitCode.FILE)
    assert "unexpected" not in outcome.err


@pytest.mark.parametrize("lie", ALL.values(), ids=ALL)
@pytest.mark.parametrize("about", [C.HELLO, C.GET_DEVICE_MEMORY], ids=["first", "last"])
def test_tunnel(  # type: ignore[no-untyped-def]
    piped, setting: Setting, tunnel_to, about: Command, lie: Lie
) -> None:
    """A tunnel forwards false replies, and serves the next client."""
    server, plain = tunnel_to
    server.about, server.lie = about, lie
    outcome = piped("probe", str(plain), "--timeout", "2")
    assert outcome.code in FAILURES or not outcome.err
    assert "unexpected" not in outcome.err
    server.lie = None
    assert piped("probe", str(plain), "--timeout", "20").code == 0


@pytest.fixture(scope="module")
def tunnel_to(
    setting: Setting, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LyingServer, Endpoint]]:
    """A lying TLS server, and the plain port of a tunnel to it, in this process."""
    files = make_certificates(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.server)
    trust = client_context(files.ca)
    with lying(setting.honest[V7_0_1], V7_0_1, C.HELLO, None, context) as server:
        where = server.endpoint
        proxy = Proxy(
            Endpoint("127.0.0.1", 0),
            where,
            lambda: TlsStream.connect_with(trust, where, Deadline(5, None)),
        )
        thread = threading.Thread(target=proxy.run)
        thread.start()
        try:
            yield server, proxy.endpoints[0]
        finally:
            proxy.stop()
            thread.join(SECONDS)
            assert not thread.is_alive()
