"""`ggrpc shell`: works in one open session, with lines from a prompt or a pipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from ggrpc.commands.endpoints import OneEndpoint, one_endpoint
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of
from ggrpc.commands.fleet import OpTableDate, Protocol, Timeout
from ggrpc.commands.listing import Json, Listing, json_line
from ggrpc.commands.shell_verbs import Answer, Quit, run_line
from ggrpc.commands.tls_options import client_options
from ggrpc.commands.unused_options import refuse_unused
from ggrpc.engine.client.registry import open_server
from ggrpc.engine.server.client_versions import state_file
from ggrpc.engine.sharing.workspace import Workspace
from ggrpc.errors import GgrpcError, ProtocolError, TransportError

EXAMPLES = (
    "ggrpc shell localhost",
    "ggrpc shell localhost --json < lines.txt",
)

KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Continue after a line from a pipe fails."),
]


def shell(
    context: typer.Context,
    endpoint: OneEndpoint,
    keep_going: KeepGoing = False,
    op_table: OpTableDate = None,
    timeout: Timeout = 60,
    protocol: Protocol = None,
    as_json: Json = False,
) -> ExitCode:
    """Work with a server in an interactive session.

    Allocate, write and read tensors, and build and compute a graph. A terminal shows a
    prompt with history and completion; type 'help' for a list of verbs. From a pipe,
    the shell reads one verb per line; the first failure ends the session with its exit
    code.
    """
    environment = environment_of(context)
    at_prompt = environment.in_terminal and environment.stdin.isatty()
    if at_prompt:
        refuse_unused(context, ("keep_going",), "at a prompt, which always continues")
    where = one_endpoint(endpoint)
    options = client_options(environment, timeout, protocol, op_table)
    with (
        open_server(where, options) as node,
        Workspace(node) as workspace,
    ):
        repl = Repl(workspace, environment, as_json)
        if at_prompt:
            return repl.run_prompt()
        return repl.run_pipe(keep_going)


class Repl:
    """Reads lines, runs them, and prints the answers."""

    def __init__(
        self, workspace: Workspace, environment: Environment, json: bool
    ) -> None:
        self._workspace = workspace
        self._environment = environment
        self._json = json

    def run_prompt(self) -> ExitCode:
        """Run typed lines until Ctrl-D, `quit`, or the loss of the connection.

        Returns:
            OK, or the code of the lost connection.
        """
        # Imported here: prompt_toolkit loads slowly, and a pipe needs no prompt.
        from ggrpc.commands.shell_prompt import history_of, typed_lines

        history = history_of(state_file().with_name("shell_history"))
        self._environment.note(
            "type 'help' for a list of verbs; Ctrl-D ends the session"
        )
        return self._run(typed_lines(self._workspace, history), typed=True)

    def run_pipe(self, keep_going: bool) -> ExitCode:
        """Run lines from a pipe; returns the code of the first failure."""
        return self._run(iter(self._environment.stdin), stop=not keep_going)

    def _run(
        self, lines: Iterator[str], stop: bool = False, typed: bool = False
    ) -> ExitCode:
        code = ExitCode.OK
        for at, line in enumerate(lines, 1):
            try:
                self._show(run_line(self._workspace, line))
            except Quit:
                break
            except KeyboardInterrupt:  # cancels the line, not the session
                if not typed:
                    raise
            except GgrpcError as error:
                self._environment.fail(error, f"line {at}: {error}" if stop else "")
                is_lost = isinstance(error, (TransportError, ProtocolError))
                if is_lost or not typed:  # the user has seen the other errors
                    code = code or code_of(error)
                if stop or is_lost:
                    break
        return code

    def _show(self, answer: Answer | None) -> None:
        if answer is None:
            return
        if self._json:
            text = "".join(f"{json_line(row)}\n" for row in answer.rows)
            self._environment.write(text)
        elif answer.text is not None:
            self._environment.write(f"{answer.text}\n")
        else:
            listing = Listing(answer.columns, json=False, headers=True)
            listing.show(self._environment, answer.rows)
