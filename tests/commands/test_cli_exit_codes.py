from __future__ import annotations

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
