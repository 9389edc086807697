"""The exit codes of all commands, and the table that maps errors to them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, unique

from ggrpc import errors


@unique
class ExitCode(IntEnum):
    """How a command ended.

    Attributes:
        meaning: a short description for the help page.
    """

    meaning: str

    def __new__(cls, number: int, meaning: str) -> ExitCode:
        """Create a member from its number and its meaning."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "success"
    CHECK_FAILED = 1, "a check failed, or ggrpc has a bug"
    USAGE = 2, "invalid command line"
    UNREACHABLE = 3, "cannot connect to an address, or cannot listen on it"
    TIMEOUT = 4, "timeout"
    PROTOCOL = 5, "the peer speaks another protocol or version"
    REFUSED = 6, "the server refused or dropped the request"
    PARTIAL = 7, "some of several servers failed"
    DEVICE = 8, "a device cannot be used"
    FILE = 9, "a file cannot be read or written"
    INTERRUPTED = 130, "interrupted by Ctrl-C"


# The first matching class wins.
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
    """The exit code of a command that queried several servers.

    Args:
        codes: one for each server.

    Returns:
        PARTIAL if some servers succeeded and others failed. If all failed: their common
        code, or else the highest one.
    """
    if ExitCode.OK in codes and set(codes) != {ExitCode.OK}:
        return ExitCode.PARTIAL
    return max(codes)
