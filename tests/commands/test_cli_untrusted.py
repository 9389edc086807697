"""Names from peers and files are data: never paths, and never raw on a terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ggrpc
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.registry import connect
from ggrpc.engine.sharing.session_sharing import SharingServer
from ggrpc.engine.sharing.upload import UploadedTensors
from tests.support.hostile_files import NAMES, PATHS, Entry, gguf, safetensors
from tests.support.recordings import recorded_here
from tests.support.runtime_dir import xdg_runtime_dir  # noqa: F401  a fixture
from tests.support.servers import running

EVIL = [*NAMES.values()]
# Rich draws a table with these; they carry no text of a name.
STYLES = ("\x1b[1m", "\x1b[0m", "\x1b[32m", "\x1b[31m")


def check_visible(outcome) -> None:  # type: ignore[no-untyped-def]
    """Check that a command printed lines of visible characters."""
    for text in outcome.out, outcome.err:
        for style in STYLES:
            text = text.replace(style, "")
        assert [line for line in text.split("\n") if not line.isprintable()] == []


def compute_names(endpoint: Endpoint) -> None:
    """Compute a graph whose tensors have hostile names."""
    g = ggrpc.GraphBuilder()
    y = x = g.tensor("F32", 32, name=NAMES["line"])
    for name in EVIL:
        y = g.relu(y, name=name)
    with ggrpc.connect(endpoint, timeout=20) as server:
        ggrpc.compute(g, {x: np.ones(32)}, devices=server.devices)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recording") / "x.bin"
    return str(recorded_here(path, client=compute_names))


@pytest.mark.parametrize("in_terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("json", [(), ("--json",)], ids=["text", "json"])
def test_inspect(  # type: ignore[no-untyped-def]
    piped, typed, tmp_path: Path, recording: str, in_terminal: bool, json: tuple[str]
) -> None:
    run = typed if in_terminal else piped
    entries = (Entry(name, offset=128 * at) for at, name in enumerate(EVIL))
    model = gguf(tmp_path / "x.gguf", *entries)
    outcomes = [
        run("inspect", str(model), *json),
        run("inspect", recording, "--by", "node", *json),
        run("inspect", recording, "--node", "1", *json),
        run("inspect", recording, "--node", NAMES["escape"] + "no"),
        run("--debug", "inspect", recording, "--node", NAMES["escape"] + "no"),
        run("inspect", recording, "--format", "mermaid"),
        run("inspect", recording, "--format", "dot"),
    ]
    for outcome in outcomes:
        check_visible(outcome)
    assert outcomes[0].out.count("\n") >= len(EVIL)


def test_replay(piped, typed, recording: str) -> None:  # type: ignore[no-untyped-def]
    for run in piped, typed:
        outcome = run("replay", recording, "--device", "cpu")
        assert outcome.code == 0, outcome.err
        check_visible(outcome)


def test_shell(recording: str) -> None:
    with running(host="127.0.0.1") as server:
        done = subprocess.run(
            [sys.executable, "-m", "ggrpc", "shell", str(server), "--keep-going"],
            input=f"load {recording}\nls\ncompute\nget 'x\\\\u202efdp.exe\\\\u202c'\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert r"x\u202efdp.exe\u202c" in done.stdout
    for line in (done.stdout + done.stderr).split("\n"):
        assert line.isprintable()


def test_names_of_two_tensors_that_are_shown_alike(piped, server, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = safetensors(tmp_path / "x.safetensors", ["\x1b", r"\x1b"])
    with running(host="127.0.0.1") as endpoint:
        outcome = piped("push", str(path), str(endpoint))
    assert outcome.code == 2
    assert r"the tensor '\x1b' already exists" in outcome.err


def test_pull_writes_into_its_folder_only(  # type: ignore[no-untyped-def]
    piped,
    typed,
    xdg_runtime_dir: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "a" / "b"
    out = home / "out"
    out.mkdir(parents=True)
    monkeypatch.chdir(home)
    names = [*PATHS, *EVIL, str(tmp_path / "absolute"), "a/" * 20 + "x"]
    model = safetensors(tmp_path / "x.safetensors", names)
    with running(host="127.0.0.1") as endpoint, connect(endpoint) as server:
        uploaded = UploadedTensors(server.device())
        uploaded.push(model, lambda count: None)
        with SharingServer(endpoint, uploaded):
            shown = [row["name"] for row in piped("pull", str(endpoint), "--json").rows]
            check_visible(typed("pull", str(endpoint)))
            many = piped("pull", str(endpoint), *shown, "-o", str(out), "--json")
            assert many.code == 0, many.err
            for name in shown:
                (row,) = piped("pull", str(endpoint), name, "--json").rows
                assert (home / row["file"]).parent == home
            long = piped("pull", str(endpoint), "a/" * 20 + "x", "-o", "x" * 300)
    assert (long.code, "File name too long" in long.err) == (9, True)
    assert len(list(out.iterdir())) == len(names)
    assert len(list(home.iterdir())) == 1 + len(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "x.safetensors"]


def test_warnings_without_a_log_are_visible(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[2J-00001-of-00002.gguf"
    gguf(path, Entry("x"))
    done = subprocess.run(
        [sys.executable, "-m", "ggrpc", "cache", "add", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"XDG_CACHE_HOME": str(tmp_path), "PATH": ""},
    )
    assert done.stderr.startswith("ggrpc: warning: ")
    assert "\x1b" not in done.stderr + done.stdout
    assert done.returncode == 0, done.stderr
