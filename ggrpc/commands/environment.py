"""The environment of a command: its streams, its verbosity, and its TLS options.

Data goes to stdout, everything else to stderr. Tests create their own environments.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

import typer

from ggrpc.errors import GgrpcError
from ggrpc.untrusted import printable

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Tls:
    """The TLS options of a command.

    Attributes:
        wanted: whether to connect over TLS.
        ca: the file with the CAs to trust; None for those of the system.
        cert: the file with the certificate to present; None presents none.
        key: the file with its private key; None if `cert` contains it.
    """

    wanted: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass
class Environment:
    """The streams, and the options that all commands share.

    Attributes:
        stdout: the stream for data.
        stderr: the stream for notes and errors.
        width: the columns of the terminal; None detects them.
        quiet: how often --quiet was given: 1 hides notes, 2 warnings too.
        debug: whether to show the traceback of an error.
        stdin: the stream for input.
        tls: how to connect to servers.
    """

    stdout: TextIO
    stderr: TextIO
    width: int | None = None
    quiet: int = 0
    debug: bool = False
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    tls: Tls = Tls()

    @classmethod
    def of_process(cls) -> Environment:
        """The environment with the streams of this process."""
        return cls(_usable(sys.stdout), _usable(sys.stderr))

    @property
    def in_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return self.stdout.isatty()

    @cached_property
    def console(self) -> Console:
        """Rich's console on stdout, created on demand because that is slow."""
        from rich.console import Console

        return Console(file=self.stdout, width=self.width, highlight=False)

    def write(self, text: str) -> None:
        """Write data.

        Raises:
            typer.Exit: the reader of the pipe has closed it, as `head` does.
            GgrpcError: writing to stdout failed.
        """
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            # Python flushes stdout again at exit, which must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
            raise typer.Exit from None
        except OSError as error:
            raise GgrpcError(f"cannot write to stdout: {error.strerror}") from error

    def note(self, text: str) -> None:
        """Print a note, if stdout is a terminal and --quiet was not given."""
        if self.in_terminal and not self.quiet:
            self._say("note", text)

    def warn(self, text: str) -> None:
        """Print a warning, unless --quiet was given twice."""
        if self.quiet < 2:
            self._say("warning", text)

    def fail(self, error: Exception, text: str = "") -> None:
        """Report an error in one line.

        Args:
            error: the error; --debug shows its traceback.
            text: replaces the message of the error.
        """
        if self.debug:
            trace = "".join(traceback.format_exception(error))
            print("\n".join(map(printable, trace.split("\n"))), file=self.stderr)
        self._say("error", text or str(error))

    def _say(self, kind: str, text: str) -> None:
        line = printable(" ".join(text.split()))
        print(f"ggrpc: {kind}: {line}", file=self.stderr, flush=True)


def _usable(stream: TextIO | None) -> TextIO:
    """A stream that accepts any text; /dev/null if the real one is closed."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        # A device's name may contain characters that the terminal cannot show.
        stream.reconfigure(errors="backslashreplace")
    return stream


def environment_of(context: typer.Context) -> Environment:
    """The environment that a command runs in."""
    environment = context.obj
    assert isinstance(environment, Environment)
    return environment
