from __future__ import annotations

from pathlib import Path

import pytest

from ggrpc import errors
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.ConnectError, 3),
        (errors.BindError, 3),
        (errors.TransportError, 3),
        (errors.TransportTimeout, 4),
        (errors.ProtocolError, 5),
        (errors.LocalProtocolError, 5),
        (errors.RemoteProtocolError, 5),
        (errors.UnsupportedFork, 5),
        (errors.VersionMismatch, 5),
        (errors.ConnectionLost, 6),
        (errors.Cancelled, 130),
        (errors.RefusedError, 6),
        (errors.GraphError, 1),
        (errors.FileError, 9),
        (errors.RecordingError, 9),
        (errors.DeviceError, 8),
        (errors.UnsupportedOp, 8),
        (errors.OutOfMemory, 8),
        (errors.GgrpcError, 1),
    ],
)
def test_each_error_has_its_code(kind: type[errors.GgrpcError], code: int) -> None:
    assert code_of(kind("what happened")) == code


def test_every_error_is_in_the_table_above() -> None:
    tested = test_each_error_has_its_code.pytestmark[0].args[1]  # type: ignore[attr-defined]
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {kind for kind, _ in tested} == kinds


@pytest.mark.parametrize(
    ("codes", "together"),
    [
        ([0], 0),
        ([0, 0], 0),
        ([3], 3),
        ([0, 3], 7),
        ([3, 3], 3),
        ([4, 3], 4),
        ([3, 6, 5], 6),
    ],
)
def test_several_codes_become_one(codes: list[int], together: int) -> None:
    assert code_of_several([_code(number) for number in codes]) == together


def _code(number: int) -> ExitCode:
    return next(code for code in ExitCode if code == number)


@pytest.mark.parametrize(
    "command",
    [
        "replay none.bin -d cpu",
        "replay folder -d cpu",
        "inspect none.bin",
        "inspect folder",
        "record 0 localhost -o none/x.bin",
        "record 0 localhost -o folder",
        "record 0 localhost -o there",
        "push none.gguf localhost",
        "push none.npy localhost",
        "probe @none",
        "probe @folder",
        "mem localhost --tls-ca none",
        "mem localhost --tls-cert there",
        "tunnel 0 localhost --tls-ca none",
        "serve -p 0 -d cpu --tls-cert none",
        "serve -p 0 -d cpu --models none",
        "serve -p 0 -d cpu --cache-dir there",
        "cache ls --cache-dir there",
        "cache add none.gguf",
        "cache verify --cache-dir there",
        "cache prune --limit 1 --cache-dir there",
    ],
)
def test_file_that_cannot_be_used_is_one_line_and_exits_9(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("folder").mkdir()
    Path("there").write_text("precious")
    outcome = piped(*command.split())
    assert (outcome.code, outcome.out) == (9, "")
    assert outcome.err.count("\n") == 1
    assert "Errno" not in outcome.err and "_ssl.c" not in outcome.err
    assert Path("there").read_text() == "precious"
