from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ggrpc.engine.client.registry import connect
from ggrpc.engine.sharing.workspace import Workspace
from tests.support.paths import NEWEST
from tests.support.processes import native_serving
from tests.support.runtime_dir import xdg_runtime_dir  # noqa: F401  a fixture


@pytest.fixture
def holding(xdg_runtime_dir: Path, tmp_path, monkeypatch) -> Iterator[str]:  # type: ignore[no-untyped-def]  # noqa: F811
    """A server of llama.cpp with shared tensors."""
    monkeypatch.chdir(tmp_path)
    with (
        native_serving(NEWEST) as endpoint,
        connect(endpoint, timeout=60) as server,
        Workspace(server) as workspace,
    ):
        workspace.set("x", [[1, 2], [3, 4]])
        workspace.set("w", [0.5] * 32, "q8_0")
        workspace.hold()
        yield str(endpoint)


def test_pull_lists_shared_tensors(piped, holding: str) -> None:  # type: ignore[no-untyped-def]
    code, out, err = piped("pull", holding)
    assert (code, err) == (0, "")
    headers, x, w = out.splitlines()
    assert headers.split() == ["NAME", "TYPE", "NE", "SIZE"]
    assert x.split() == ["x", "F32", "2x2x1x1", "16", "B"]
    assert w.split()[:2] == ["w", "Q8_0"]


def test_pull_saves_values_and_bytes(piped, holding: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    outcome = piped("pull", holding, "x", "w", "--json")
    assert [row["file"] for row in outcome.rows] == ["x.npy", "w.npy"]
    assert np.load("x.npy").tolist() == [[1, 2], [3, 4]]
    assert np.allclose(np.load("w.npy"), 0.5, atol=0.01)
    assert piped("pull", holding, "w", "-o", "w.bin").code == 0
    assert Path("w.bin").stat().st_size == 34
    (tmp_path / "folder").mkdir()
    assert piped("pull", holding, "x", "-o", "folder").code == 0
    assert (tmp_path / "folder" / "x.npy").exists()


def test_pull_replaces_files_only_with_force(piped, holding: str) -> None:  # type: ignore[no-untyped-def]
    Path("x.npy").write_text("dear to somebody")
    code, out, err = piped("pull", holding, "x")
    assert (code, out) == (9, "")
    assert "x.npy already exists: use --force to replace it" in err
    assert Path("x.npy").read_text() == "dear to somebody"
    assert piped("pull", holding, "x", "--force").code == 0
    assert np.load("x.npy").shape == (2, 2)


def test_pull_lists_saved_files_before_an_error(piped, holding: str) -> None:  # type: ignore[no-untyped-def]
    Path("w.npy").write_text("dear to somebody")
    outcome = piped("pull", holding, "x", "w", "--json")
    assert outcome.code == 9
    assert [row["file"] for row in outcome.rows] == ["x.npy"]
    assert "w.npy already exists" in outcome.err
    assert piped("pull", holding, "x", "nix", "--force").out == ""


def test_pull_of_an_unknown_tensor_exits_6(piped, holding: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("pull", holding, "y")
    assert code == 6
    assert f"no tensor 'y' is shared on {holding}" in err
    code, _, err = piped("pull", "elsewhere:1", "y")
    assert code == 6
    assert "holds tensors on elsewhere:1: start one with 'ggrpc push --hold'" in err
