from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ggrpc.commands.main import root

SCRIPTS = Path(__file__).parents[2] / "completions"


def completed(**variables: str) -> str:
    """What the shell hears when it asks."""
    return subprocess.run(
        [sys.executable, "-m", "ggrpc"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **variables},
    ).stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_is_current(shell: str) -> None:
    script = completed(_GGRPC_COMPLETE=f"source_{shell}")
    current = (SCRIPTS / f"ggrpc.{shell}").read_text()
    assert current == script.strip() + "\n", "run completions/regenerate"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ggrpc ", list(root().commands)),
        ("ggrpc pro", ["probe"]),
        ("ggrpc mem --js", ["--json"]),
        ("ggrpc serve --log-level ", ["debug", "info", "warning", "error"]),
    ],
)
def test_words_are_completed(words: str, offered: list[str]) -> None:
    text = completed(
        _GGRPC_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(len(words.split(" ")) - 1),
    )
    assert text.split() == offered
