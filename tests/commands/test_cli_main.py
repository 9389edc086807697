from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ggrpc import __version__
from ggrpc.commands import main
from ggrpc.commands.environment import Environment
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.errors import GgrpcError

COMMANDS = list(main.root().commands)
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def broken(monkeypatch):  # type: ignore[no-untyped-def]
    """Makes `ggrpc devices` raise."""

    def break_with(error: BaseException) -> None:
        def fail():  # type: ignore[no-untyped-def]
            raise error

        monkeypatch.setattr("ggrpc.devices.catalogue.entries", fail)

    return break_with


def help_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main.run(arguments, Environment(io.StringIO(), io.StringIO())) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_row_in_the_readme(command: str) -> None:
    assert f"\n| `ggrpc {command}" in README.read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_summary_is_the_first_line_of_the_help(command: str) -> None:
    group = main.root()
    summary = group.commands[command].help
    group.load(command)
    text = group.commands[command].help
    assert text and text.split("\n\n")[0].strip() == summary


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version_is_the_packages(piped, flag: str) -> None:  # type: ignore[no-untyped-def]
    assert piped(flag) == (0, f"ggrpc {__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("-h",), ("--help",)])
def test_help_lists_commands_and_codes_and_ends_with_examples(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    text = help_of(capsys, *arguments)
    for command in COMMANDS:
        assert f"\n  {command} " in text
    for code in ExitCode:
        assert f"{code:>3}  {code.meaning}\n" in text
    assert text.splitlines()[-1].startswith("    ggrpc ")
    assert "..." not in text.split("Commands:")[1]  # no summary is truncated


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_each_command_ends_with_an_example(
    capsys: pytest.CaptureFixture[str], command: str, flag: str
) -> None:
    text = help_of(capsys, command, flag)
    assert text.startswith(f"Usage: ggrpc {command} ")
    assert "Example" in text
    assert text.splitlines()[-1].startswith(f"    ggrpc {command}")


@pytest.mark.parametrize("flag", ["--quiet", "--debug"])
@pytest.mark.parametrize("command", COMMANDS)
def test_global_flags_are_in_the_help_of_each_command(
    capsys: pytest.CaptureFixture[str], command: str, flag: str
) -> None:
    assert flag in help_of(capsys, command, "-h")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["prob"], r"no such command 'prob'.*; see 'ggrpc --help'"),
        (["--frob"], r"no such option:? '?--frob'?; see 'ggrpc --help'"),
        (["mem", "--frob"], r"no such option:? '?--frob'?; see 'ggrpc mem --help'"),
        (["probe"], r"no servers given: write host:port, or set \$GGRPC_ENDPOINTS"),
        (["shell"], r"missing argument 'ENDPOINT'; see 'ggrpc shell --help'"),
        (["serve", "-p", "70000"], r"invalid value for '-p'.*; see 'ggrpc serve --he"),
        (["serve", "-t", "0"], r"invalid value for '-t'.*; see 'ggrpc serve --help'"),
        (["serve", "--log-level", "loud"], r"'loud' is not one of.*; see 'ggrpc serv"),
        (["serve", "-p", "x"], r"invalid value for '-p'.*; see 'ggrpc serve"),
        (["probe", "a", "--timeout", "-1"], r"invalid value for '--timeout'"),
        (["probe", "a", "--timeout", "soon"], r"invalid value for '--timeout'"),
        (["-q"], r"missing command; see 'ggrpc --help'"),
    ],
)
def test_usage_error_is_one_line_that_says_what_next(  # type: ignore[no-untyped-def]
    piped, arguments: list[str], line: str
) -> None:
    code, out, err = piped(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("ggrpc: error: ")
    assert re.search(line, err), err
    assert "Input should" not in err and "Value error" not in err  # pydantic's message


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("help", "Usage: ggrpc [OPTIONS]"),
        ("help probe", "Usage: ggrpc probe "),
        ("help cache", "Usage: ggrpc cache "),
        ("help cache ls", "Usage: ggrpc cache ls "),
    ],
)
def test_help_is_a_command_too(
    capsys: pytest.CaptureFixture[str], words: str, usage: str
) -> None:
    assert help_of(capsys, *words.split()).startswith(usage)


def test_help_of_an_unknown_command_exits_2(piped) -> None:  # type: ignore[no-untyped-def]
    assert piped("help", "nope").code == 2


def test_error_of_ours_is_one_line_with_its_code(piped, broken) -> None:  # type: ignore[no-untyped-def]
    broken(GgrpcError("it\ndid not work"))
    assert piped("devices") == (1, "", "ggrpc: error: it did not work\n")


def test_bug_is_one_line_that_points_to_debug(piped, broken) -> None:  # type: ignore[no-untyped-def]
    broken(ZeroDivisionError("by zero"))
    code, out, err = piped("devices")
    assert (code, out) == (1, "")
    assert err == (
        "ggrpc: error: unexpected ZeroDivisionError: by zero; "
        "run it again with --debug to see where\n"
    )


@pytest.mark.parametrize("arguments", [("--debug", "devices"), ("devices", "--debug")])
def test_debug_shows_the_traceback_before_the_line(piped, broken, arguments) -> None:  # type: ignore[no-untyped-def]
    broken(ZeroDivisionError("by zero"))
    code, _, err = piped(*arguments)
    assert code == 1
    assert err.startswith("Traceback")
    assert err.endswith("\nggrpc: error: unexpected ZeroDivisionError: by zero\n")


def test_ctrl_c_exits_130_without_a_word(piped, broken) -> None:  # type: ignore[no-untyped-def]
    broken(KeyboardInterrupt())
    assert piped("devices") == (130, "", "")


@pytest.mark.parametrize("arguments", [("-qq", "devices"), ("devices", "-q", "-q")])
def test_quiet_counts_before_and_behind_the_command(arguments: tuple[str, ...]) -> None:
    environment = Environment(io.StringIO(), io.StringIO())
    assert main.run(arguments, environment) == 0
    assert environment.quiet == 2


def test_reader_that_leaves_early_is_no_error() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "ggrpc", "--version"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, "")


def test_output_that_cannot_be_written_is_one_line() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    environment = Environment(Full(), io.StringIO())
    assert main.run(["--version"], environment) == 1
    error = "ggrpc: error: cannot write to stdout: No space left on device\n"
    assert environment.stderr.getvalue() == error  # type: ignore[attr-defined]


def test_closed_streams_are_no_error() -> None:
    command = f"exec {sys.executable} -m ggrpc mem a:b >&- 2>&-"
    assert subprocess.run(command, shell=True).returncode == 2
    command = f"exec {sys.executable} -m ggrpc --version >&-"
    assert subprocess.run(command, shell=True).returncode == 0


def test_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ggrpc", "frob"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ggrpc: error: no such command 'frob'")


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_version_and_help_load_nothing_slow(flag: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ggrpc", flag],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    for slow in ("numpy", "pyopencl", "ggrpc.engine", "ggrpc.devices", "gguf"):
        assert slow not in done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not loaded & {f"ggrpc.commands.{command}" for command in COMMANDS}
