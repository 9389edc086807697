"""Runs every block of docs/runbooks.md unchanged."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggrpc.commands import main
from ggrpc.types import GGMLType
from tests.support.models import write_architecture
from tests.support.processes import serving

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks.md"
BLOCKS = re.findall(r"^## (.*?)\n.*?```sh\n(.*?)```", RUNBOOKS.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the blocks, with two servers and a model."""
    model = tmp_path_factory.mktemp("model") / "model.gguf"
    write_architecture(model, "llama", GGMLType.Q8_0)
    with serving() as one, serving() as two:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        yield {
            **os.environ,
            "PATH": path,
            "NODE1": str(one.endpoint),
            "NODE2": str(two.endpoint),
            "MODEL": str(model),
        }


@pytest.mark.parametrize(("task", "script"), BLOCKS, ids=[task for task, _ in BLOCKS])
def test_runbook(task: str, script: str, nodes: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=nodes,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", main.root().commands)
def test_every_command_has_a_runbook(command: str) -> None:
    assert any(f"ggrpc {command}" in script for _, script in BLOCKS)
