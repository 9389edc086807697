from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from ggrpc.commands import shell_prompt
from ggrpc.commands.environment import Environment
from ggrpc.commands.main import run
from ggrpc.commands.shell_prompt import ShellCompleter, history_of, typed_lines
from ggrpc.commands.shell_verbs import VERBS
from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.registry import connect
from ggrpc.engine.sharing.workspace import Workspace
from tests.commands.conftest import Outcome, Terminal
from tests.support.processes import free_port, native_serving
from tests.support.runtime_dir import xdg_runtime_dir  # noqa: F401  a fixture
from tests.support.servers import running


@pytest.fixture(scope="module")
def node():  # type: ignore[no-untyped-def]
    two = [CpuDevice(threads=1, weight_cache=0) for _ in range(2)]
    with running(*two) as endpoint:
        yield endpoint


def shell(node: Endpoint, lines: str, *options: str) -> Outcome:
    out, err = io.StringIO(), io.StringIO()
    environment = Environment(out, err, stdin=io.StringIO(lines))
    code = run(["shell", str(node), *options], environment)
    return Outcome(code, out.getvalue(), err.getvalue())


LAYER = """
# a layer
alloc w q8_0 64 3
set w random
set x '[[1, 0, 0, 0], [0, 1, 0, 0]]'
set big [1,2,3,4,5,6,7,8]
node turned reshape big 4 2
node y mul turned x
compute
"""


def test_lines_of_a_pipe_run_in_order(node: Endpoint) -> None:
    code, out, err = shell(node, f"{LAYER}get y\nls\n")
    assert (code, err) == (0, "")
    assert "[[1. 0. 0. 0.]\n [0. 6. 0. 0.]]" in out
    listed = out.splitlines()[-6:]
    assert listed[0].split() == ["NAME", "OP", "TYPE", "NE", "SIZE", "DEVICE"]
    assert listed[1].split() == ["w", "-", "Q8_0", "64x3x1x1", "204", "B", "0"]
    assert listed[-1].split()[:3] == ["y", "MUL", "F32"]


def test_json_prints_one_object_per_line(node: Endpoint) -> None:
    lines = f"{LAYER}recompute\nget y\nmem\nhelp\nhelp get\nhelp ops\nhelp rope\n"
    code, out, err = shell(node, lines, "--json")
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["name"] for row in rows[:3]] == ["y"] * 3
    assert rows[0]["ms"] > 0
    assert rows[2]["values"] == [[1, 0, 0, 0], [0, 6, 0, 0]]
    assert [row["device"] for row in rows[3:5]] == [0, 1]


def test_native_server_runs_the_same_lines() -> None:
    with native_serving("0.3.17") as native:
        code, out, err = shell(
            native, f"{LAYER}recompute\nget y\nfree x w\nclear big 0\n"
        )
    assert (code, err) == (0, "")
    assert "[0. 6. 0. 0.]" in out


def test_files_and_devices(node: Endpoint, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(4, dtype=np.float32))
    (tmp_path / "graph.txt").write_text("node y scale x scale=-1\ncompute\n")
    lines = f"""
    device 1
    set x {tmp_path}/x.npy
    run {tmp_path}/graph.txt
    get y {tmp_path}/y.npy
    get y {tmp_path}/y.npy --force
    ls
    new
    ls
    quit
    get nothing
    """
    code, out, err = shell(node, lines)
    assert (code, err) == (0, "")
    assert np.load(tmp_path / "y.npy").tolist() == [0, -1, -2, -3]
    assert [line.split()[-1] for line in out.splitlines() if line[:1] == "x"] == [
        "1"
    ] * 2


def test_session_can_be_shared(node: Endpoint, xdg_runtime_dir: Path) -> None:  # noqa: F811
    code, out, err = shell(node, "set x 1\nhold\nhold\nwait 0\n")
    assert (code, out, err) == (0, "", "")
    assert not list(xdg_runtime_dir.rglob("*.sock"))


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (
            "frobnicate",
            2,
            "line 1: there is no verb 'frobnicate': list them",
        ),
        ("alloc x f32", 2, "line 1: usage: alloc NAME TYPE NE [NE...]"),
        ("set x [[1, 2], [3, 4]]", 2, "usage: set NAME VALUES|FILE|random [TYPE]"),
        ("mem 1", 2, "line 1: usage: mem"),
        ("alloc x f32 many", 2, "'many' is not a number"),
        ("alloc x f32 1000000000 1000000", 8, "cannot allocate 4000000000000000 bytes"),
        ("set 'x", 2, "cannot parse the line: no closing quotation"),
        ("help nothing", 2, "there is no verb or op 'nothing'"),
        ("run /nix", 9, "cannot read /nix"),
        ("device 9", 6, "has no device 9"),
        ("node y get_rows - -", 1, "GET_ROWS 'y': source 0 is missing"),
    ],
)
def test_first_error_of_a_pipe_is_the_exit_code(
    node: Endpoint, line: str, code: int, message: str
) -> None:
    outcome = shell(node, f"{line}\nmem\n")
    assert (outcome.code, outcome.out) == (code, "")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_keep_going_continues_after_errors(node: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("mem\nget nix\n")
    lines = f"set x 1\nrun {tmp_path}/bad\ndevice 7\nmem\n"
    code, out, err = shell(node, lines, "--keep-going")
    assert code == 2
    assert err.count("\n") == 2
    assert "bad, line 2: there is no tensor 'nix'" in err
    assert out.splitlines()[0].split() == ["DEVICE", "FREE", "TOTAL"]


def test_lost_session_ends_the_shell(node: Endpoint, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def drop(workspace: Workspace) -> None:
        workspace.server.client._stream.shut()
        workspace.server.device().memory()

    monkeypatch.setattr(Workspace, "recompute", drop)
    code, out, err = shell(node, "recompute\nmem\n", "--keep-going")
    assert (code, out) == (6, "")
    assert "closed the connection" in err


@pytest.mark.parametrize("word", ["quit", "exit"])
def test_session_can_be_left(node: Endpoint, word: str) -> None:
    outcome = shell(node, f"set x 2\n{word}\nget x\n")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_shell_without_a_server_exits_3() -> None:
    assert shell(Endpoint("127.0.0.1", free_port()), "mem\n").code == 3


def test_terminal_has_a_prompt(node: Endpoint, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    out, err = Terminal(), io.StringIO()
    environment = Environment(out, err, 100, stdin=Terminal())
    with create_pipe_input() as keys:
        keys.send_text("get nix\rset x 2\rget x\r\x04")
        with create_app_session(input=keys, output=DummyOutput()):
            code = run(["shell", str(node)], environment)
    assert code == 0
    assert out.getvalue() == "[2.]\n"
    assert "Ctrl-D ends the session" in err.getvalue()
    assert "there is no tensor 'nix'" in err.getvalue()
    assert "set x 2" in (tmp_path / "ggrpc" / "shell_history").read_text()


@pytest.fixture
def workspace(node: Endpoint) -> Iterator[Workspace]:
    with connect(node, timeout=60) as server:
        yield Workspace(server)


def test_ctrl_c_cancels_a_running_line(node: Endpoint, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def interrupted(workspace: Workspace, words: list[str]) -> None:
        raise KeyboardInterrupt

    out = Terminal()
    environment = Environment(out, io.StringIO(), 100, stdin=Terminal())
    monkeypatch.setitem(VERBS, "wait", VERBS["wait"]._replace(run=interrupted))
    monkeypatch.setattr(
        shell_prompt, "typed_lines", lambda *_: iter(["set x 2", "wait", "get x"])
    )
    assert run(["shell", str(node)], environment) == 0
    assert out.getvalue() == "[2.]\n"
    assert shell(node, "wait\nmem\n").code == 130


def test_ctrl_c_discards_a_line(workspace: Workspace) -> None:
    with create_pipe_input() as keys:
        keys.send_text("half a line\x03mem\r\x04")
        with create_app_session(input=keys, output=DummyOutput()):
            assert list(typed_lines(workspace, InMemoryHistory())) == ["mem"]


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("rec", ["recompute"]),
        ("alloc x q8", ["q8_0", "q8_1", "q8_k"]),
        ("get lon", ["longname"]),
        ("node y soft_", ["soft_max", "soft_max_back"]),
        ("node y sqr long", ["longname"]),
        ("help qui", ["quit"]),
        ("ex", ["exit"]),
        ("node lon", []),
    ],
)
def test_completion_of_names(
    workspace: Workspace, text: str, choices: list[str]
) -> None:
    workspace.alloc("longname", "f32", [1])
    completer = ShellCompleter(workspace)
    found = completer.get_completions(Document(text), CompleteEvent())
    assert [completion.text for completion in found] == choices


def test_completion_of_files(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "weights.npy").touch()
    document = Document(f"set x {tmp_path}/weig")
    found = ShellCompleter(workspace).get_completions(document, CompleteEvent())
    assert [completion.text for completion in found] == ["hts.npy"]


def test_history_is_in_memory_if_the_file_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert isinstance(history_of(tmp_path / "file" / "history"), InMemoryHistory)
