"""The exit codes, the same for every command, and which error leads to which."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, unique

from ggrpc import errors


@unique
class ExitCode(IntEnum):
    """How a command ended.

    Attributes:
        meaning: for people to read.
    """

    meaning: str

    def __new__(cls, number: int, meaning: str) -> ExitCode:
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "all went well"
    CHECK_FAILED = 1, "a check failed, or ggrpc itself did"
    USAGE = 2, "the command line makes no sense"
    UNREACHABLE = 3, "nobody answers at an address, or it cannot be listened on"
    TIMEOUT = 4, "the time ran out"
    PROTOCOL = 5, "the peer speaks another protocol or version"
    REFUSED = 6, "the server refused or dropped the request"
    PARTIAL = 7, "some of several servers failed"
    DEVICE = 8, "a device cannot be used"
    FILE = 9, "a file cannot be read or written"
    INTERRUPTED = 130, "stopped by Ctrl-C"


# The first class that fits counts.
_BY_ERROR: tuple[tuple[type[errors.GgrpcError], ExitCode], ...] = (
    (errors.ConfigError, ExitCode.USAGE),
    (errors.TransportTimeout, ExitCode.TIMEOUT),
    (errors.ConnectionLost, ExitCode.REFUSED),
    (errors.Cancelled, ExitCode.INTERRUPTED),
    (errors.TransportError, ExitCode.UNREACHABLE),
    (errors.ProtocolError, ExitCode.PROTOCOL),
    (errors.RefusedError, ExitCode.REFUSED),
    (errors.GraphError, ExitCode.CHECK_FAILED),
    (errors.FileError, ExitCode.FILE),
    (errors.DeviceError, ExitCode.DEVICE),
)


def code_of(error: Exception) -> ExitCode:
    """The exit code of a command that ended with this error."""
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    return ExitCode.CHECK_FAILED


def code_of_several(codes: Sequence[ExitCode]) -> ExitCode:
    """The exit code of a command that asked several servers.

    Args:
        codes: one for each server.

    Returns:
        PARTIAL where some went well and some not. Where none went well: what they have
        in common, else the highest.
    """
    if ExitCode.OK in codes and set(codes) != {ExitCode.OK}:
        return ExitCode.PARTIAL
    return max(codes)
