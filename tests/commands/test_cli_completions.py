from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ggrpc.commands.main import root

SCRIPTS = Path(__file__).parents[2] / "completions"


def completed(**variables: str) -> str:
    """The completions that ggrpc returns to a shell."""
    return subprocess.run(
        [sys.executable, "-m", "ggrpc"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **variables},
    ).stdout


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put this ggrpc on the shells' PATH."""
    here = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{here}{os.pathsep}{os.environ['PATH']}")


def shell(name: str) -> str:
    """A shell of this machine."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install {name}")
    return found


@pytest.mark.usefixtures("path")
def test_scripts_are_current(tmp_path: Path) -> None:
    subprocess.run([SCRIPTS / "regenerate", tmp_path], check=True)
    for script in tmp_path.iterdir():
        current = (SCRIPTS / script.name).read_text()
        assert current == script.read_text(), "run completions/regenerate"


@pytest.mark.usefixtures("path")
def test_bash_completes() -> None:
    script = f"source {SCRIPTS}/ggrpc.bash; COMP_WORDS=(ggrpc pro); COMP_CWORD=1;"
    asked = f"{script} _ggrpc_completion ggrpc; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", asked], stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == ["probe"]


@pytest.mark.usefixtures("path")
def test_fish_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fish" / "completions"
    folder.mkdir(parents=True)
    shutil.copy(SCRIPTS / "ggrpc.fish", folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    asked = [shell("fish"), "-c", "complete -C 'ggrpc pro'"]
    done = subprocess.run(asked, stdout=subprocess.PIPE, text=True)
    assert done.stdout.startswith("probe\t")


@pytest.mark.usefixtures("path")
def test_zsh_completes_at_the_first_tab(tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "ggrpc.zsh", tmp_path / "_ggrpc")
    zsh, (reader, terminal) = shell("zsh"), os.openpty()
    with subprocess.Popen(
        [zsh, "-f", "-i"], stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        setup = f"fpath=({tmp_path} $fpath); autoload -U compinit"
        os.write(reader, f"{setup}; compinit -u -d {tmp_path}/dump\n".encode())
        os.write(reader, b"ggrpc mem --no-hea\t")
        seen = b""
        while b"--no-headers" not in seen and select.select([reader], [], [], 60)[0]:
            seen += os.read(reader, 4096)
        process.kill()
    os.close(reader)
    os.close(terminal)
    assert b"--no-headers" in seen


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
