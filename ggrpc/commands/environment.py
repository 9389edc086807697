"""What surrounds a command: its streams, and how much it is to say.

Data goes to stdout, everything else to stderr. Tests put another environment in place.
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

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Tls:
    """How the clients of a command speak TLS.

    Attributes:
        wanted: whether they do.
        ca: file with the CAs of servers, None for those of the system.
        cert: file with the certificate to show.
        key: file with its key, None where it is in the same.
    """

    wanted: bool = False
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass
class Environment:
    """The streams, and the choices that hold for every command.

    Attributes:
        stdout: takes data.
        stderr: takes notes and errors.
        width: columns of the terminal; None to ask it.
        quiet: how often --quiet was given: 1 hides notes, 2 warnings too.
        debug: whether an error shows its traceback.
        stdin: what is typed or piped in.
        tls: how servers are spoken with.
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
        """The one that this process has."""
        return cls(_usable(sys.stdout), _usable(sys.stderr))

    @property
    def in_terminal(self) -> bool:
        """Whether a person reads stdout."""
        return self.stdout.isatty()

    @cached_property
    def console(self) -> Console:
        """Rich's view of stdout; made when first needed, for it takes a while."""
        from rich.console import Console

        return Console(file=self.stdout, width=self.width, highlight=False)

    def write(self, text: str) -> None:
        """Write data.

        Raises:
            typer.Exit: the reader has gone, as `head` does: it has had enough.
            GgrpcError: it cannot be written.
        """
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            # Python flushes once more at the end, which must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
            raise typer.Exit from None
        except OSError as error:
            raise GgrpcError(f"cannot write to stdout: {error.strerror}") from error

    def note(self, text: str) -> None:
        """Tell a person something that a script need not know."""
        if self.in_terminal and not self.quiet:
            self._say("note", text)

    def warn(self, text: str) -> None:
        """Tell everybody what changes what a result is worth."""
        if self.quiet < 2:
            self._say("warning", text)

    def fail(self, error: Exception, text: str = "") -> None:
        """Report an error in one line.

        Args:
            error: its traceback is shown where that was asked for.
            text: what to say instead of what it says itself.
        """
        if self.debug:
            traceback.print_exception(error, file=self.stderr)
        self._say("error", text or str(error))

    def _say(self, kind: str, text: str) -> None:
        print(f"ggrpc: {kind}: {' '.join(text.split())}", file=self.stderr, flush=True)


def _usable(stream: TextIO | None) -> TextIO:
    """A stream that takes all text, also where a supervisor has closed the real one."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, io.TextIOWrapper):
        # A device's name may hold what the terminal cannot show.
        stream.reconfigure(errors="backslashreplace")
    return stream


def environment_of(context: typer.Context) -> Environment:
    """The environment that a command runs in."""
    environment = context.obj
    assert isinstance(environment, Environment)
    return environment
