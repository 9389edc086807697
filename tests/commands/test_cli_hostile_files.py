"""Every command that reads files refuses hostile ones with exit code 9."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ggrpc.commands.shell_verbs import run_line
from ggrpc.engine.client.registry import connect
from ggrpc.engine.sharing.workspace import Workspace
from ggrpc.errors import FileError
from tests.support.hostile_files import Entry, gguf, text
from tests.support.processes import serving
from tests.support.servers import running

MEMORY = 300 << 10  # KiB


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """52 bytes that announce 2^60 elements."""
    pair = text("a") + struct.pack("<IIQ", 9, 4, 1 << 60)
    (tmp_path / "models").mkdir()
    return gguf(tmp_path / "models" / "x.gguf", pairs=pair, counts=(0, 1), data=b"")


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "FILE"),
        ("push", "FILE", "127.0.0.1:1"),
        ("push", "FILE", "127.0.0.1:1", "--hold"),
        ("cache", "add", "FILE", "--cache-dir", "DIR"),
        ("replay", "FILE", "--device", "cpu"),
    ],
    ids=" ".join,
)
def test_hostile_model(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, model: Path, command: tuple[str, ...]
) -> None:
    words = {"FILE": str(model), "DIR": str(tmp_path / "cache")}
    outcome = piped(*(words.get(word, word) for word in command))
    assert outcome.code == 9
    assert outcome.err.count("\n") == 1
    assert str(model) in outcome.err
    assert "unexpected" not in outcome.err


def test_replay_with_a_hostile_model(piped, model: Path) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("replay", str(model), "-d", "cpu", "--model", str(model))
    assert (outcome.code, "unexpected" in outcome.err) == (9, False)


def test_server_with_a_hostile_model(tmp_path: Path, model: Path) -> None:
    gguf(model.with_name("y.gguf"), Entry("y"))
    folder = str(model.parent)
    with serving("--models", folder, "--cache-dir", str(tmp_path / "c")) as served:
        assert served.endpoint
        served.wait_for_line("x.gguf is not a valid GGUF")
        served.wait_for_line("y.gguf: 0 tensors need not be sent")
        status = Path(f"/proc/{served.process.pid}/status").read_text()
        (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) < MEMORY


@pytest.mark.parametrize("values", ["[" * 50_000, "9" * 10_000], ids=["deep", "long"])
def test_hostile_values_in_the_shell_are_no_numbers(values: str) -> None:
    with (
        running() as endpoint,
        connect(endpoint) as server,
        Workspace(server) as workspace,
        pytest.raises(FileError, match="too long"),
    ):
        run_line(workspace, f"set x {values}")
