"""`ggrpc`: defines the table of commands, and converts errors to exit codes."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, cast

import typer
from typer.core import TyperCommand, TyperGroup

from ggrpc import __version__
from ggrpc.commands import tls_options
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of
from ggrpc.commands.lazy_group import LazyGroup
from ggrpc.commands.logs import WarningHandler
from ggrpc.commands.signals import interrupts_deadly, interrupts_raised
from ggrpc.commands.unused_options import refuse_unused
from ggrpc.errors import GgrpcError

# Typer depends on click or includes a copy of it; this is the UsageError of either.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# The module of each command has the same name, and is imported when it is used.
COMMANDS = {
    "serve": "Serve this machine's devices to llama.cpp.",
    "probe": "Show version, devices and latency of servers.",
    "mem": "Show the device memory of servers.",
    "tunnel": "Forward a plain local port to a TLS server.",
    "bench": "Compare the speed of servers.",
    "check": "Check the protocol and the arithmetic of servers.",
    "shell": "Work with a server in an interactive session.",
    "pull": "Save tensors that an open session holds.",
    "push": "Send the tensors of a file to servers.",
    "record": "Record the traffic between llama.cpp and a server.",
    "replay": "Run a recording again, and compare the results.",
    "inspect": "Show a recording, a captured session or a model.",
    "devices": "List the devices of this machine.",
    "cache": "Manage the tensors that a worker keeps on its disk.",
}
TLS_FLAGS = tls_options.NAMES
# The commands that connect to servers, and so have the TLS flags of a client.
CLIENT_COMMANDS = frozenset(
    {
        *("probe", "mem", "tunnel", "bench", "check"),
        *("shell", "pull", "push", "record", "replay"),
    }
)

EXAMPLES = (
    "ggrpc serve",
    "ggrpc probe node[01-16]:50052",
    "ggrpc check localhost",
    "ggrpc push model.gguf node01,node02",
    "ggrpc record 50053 localhost -o graph.bin",
    "ggrpc replay graph.bin --device cpu",
)


def main() -> None:
    """Run the command that this process was started with."""
    if not sys.warnoptions:
        # Data may contain infinity and NaN, about which numpy would warn on stderr.
        warnings.filterwarnings("ignore", category=RuntimeWarning)
    environment = Environment.of_process()
    logging.lastResort = WarningHandler(environment)
    try:
        with interrupts_raised():
            code = run(sys.argv[1:], environment)
    except KeyboardInterrupt:  # just before or after the command
        code = ExitCode.INTERRUPTED
    sys.exit(code)


def run(arguments: Sequence[str], environment: Environment) -> int:
    """Run a command.

    Returns:
        Its exit code.
    """
    try:
        # `main` returns the result of the command, or the code of a typer.Exit.
        result = root().main(
            args=_help_as_option(arguments) or ["--help"],
            prog_name="ggrpc",
            standalone_mode=False,
            obj=environment,
        )
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except UsageError as error:
        environment.fail(error, _usage(cast(typer.BadParameter, error)))
        return ExitCode.USAGE
    except GgrpcError as error:
        environment.fail(error)
        return code_of(error)
    except Exception as error:
        environment.fail(error, _bug(error, environment.debug))
        return ExitCode.CHECK_FAILED
    return int(result or ExitCode.OK)


def _help_as_option(arguments: Sequence[str]) -> list[str]:
    """Replace `help probe` with `probe --help`, and `help` with `--help`."""
    if list(arguments[:1]) == ["help"]:
        return [*arguments[1:], "--help"]
    return list(arguments)


def root() -> LazyGroup:
    """The whole command line; `LazyGroup.load` loads one of its commands."""
    app = typer.Typer(
        cls=LazyGroup,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,  # plain help: the same in a terminal and in a pipe
    )
    app.callback(cls=LazyGroup, epilog=_codes() + _examples(EXAMPLES))(_ggrpc)
    group = cast(LazyGroup, typer.main.get_command(app))
    # These flags can stand before and after the command.
    anywhere = [param for param in group.params if param.name in ("quiet", "debug")]
    clients = [param for param in group.params if param.name in TLS_FLAGS]

    def load(name: str) -> TyperCommand | TyperGroup:
        with interrupts_deadly():
            command = _command(name)
        command.params += [*clients, *anywhere] if name in CLIENT_COMMANDS else anywhere
        if isinstance(command, TyperGroup):
            for part in command.commands.values():
                part.params += anywhere
        return command

    group.add_lazily(COMMANDS, load)
    return group


def _command(name: str) -> TyperCommand | TyperGroup:
    """Import a command, or a group of commands such as `cache`."""
    module = import_module(f"ggrpc.commands.{name}")
    app = typer.Typer(
        name=name,
        help=COMMANDS[name],
        epilog=_examples(module.EXAMPLES),
        rich_markup_mode=None,
        add_completion=False,
    )
    if parts := getattr(module, "PARTS", ()):
        for part in parts:
            app.command(epilog=_examples(module.EXAMPLES_OF[part.__name__]))(part)
    else:
        function = getattr(module, name)
        app.command(name, epilog=_examples(module.EXAMPLES))(function)
    return cast(TyperCommand | TyperGroup, typer.main.get_command(app))


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        environment_of(context).write(f"ggrpc {__version__}\n")
        raise typer.Exit


def _be_quiet(context: typer.Context, times: int) -> None:
    environment_of(context).quiet += times


def _show_traces(context: typer.Context, wanted: bool) -> None:
    environment_of(context).debug |= wanted


def _ggrpc(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            *("-V", "--version"),
            callback=_show_version,
            is_eager=True,
            expose_value=False,
            help="Show the version and exit.",
        ),
    ] = False,
    quiet: Annotated[
        int,
        typer.Option(
            "-q",
            "--quiet",
            callback=_be_quiet,
            count=True,
            expose_value=False,
            show_default=False,
            help="Hide notes; -qq hides warnings too.",
        ),
    ] = 0,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=_show_traces,
            expose_value=False,
            help="Show the traceback of an error.",
        ),
    ] = False,
    tls: tls_options.Wanted = False,
    tls_ca: tls_options.Ca = None,
    tls_cert: tls_options.Cert = None,
    tls_key: tls_options.Key = None,
) -> None:
    """Operate fleets of ggml RPC servers, the workers of llama.cpp's --rpc.

    'ggrpc COMMAND -h' shows the help of a command, with examples. The same functions
    are available in Python: import ggrpc, and help(ggrpc).
    """
    command = context.invoked_subcommand
    if command not in CLIENT_COMMANDS:
        refuse_unused(context, TLS_FLAGS, f"before '{command}'")


def _examples(lines: Sequence[str]) -> str:
    # \b keeps click from joining the lines.
    title = "Examples:" if lines[1:] else "Example:"
    return "\n".join(("\b", title, *(f"  {line}" for line in lines)))


def _codes() -> str:
    lines = [f"{code:>5}  {code.meaning}" for code in ExitCode]
    return "\n".join(("\b", "Exit codes:", *lines, "", ""))


def _usage(error: typer.BadParameter) -> str:
    command = error.ctx.command_path if error.ctx else "ggrpc"
    message = error.format_message().rstrip(".")
    for pattern, words in _OF_PYDANTIC:
        message = re.sub(pattern, words, message)
    return f"{message[:1].lower()}{message[1:]}; see '{command} --help'"


# Messages of pydantic, which newer versions of Typer quote, and plainer ones.
_OF_PYDANTIC = (
    (r"Input should be a valid integer\b.*", "it must be a whole number"),
    (r"Input should be a valid number\b.*", "it must be a number"),
    (r"Input should be greater than or equal to", "it must be at least"),
    (r"Input should be less than or equal to", "it must be at most"),
    (r"Input should be", "it must be"),
    (r"Value error, ", ""),
)


def _bug(error: Exception, shown: bool) -> str:
    advice = "" if shown else "; run it again with --debug to see where"
    return f"unexpected {type(error).__name__}: {error}{advice}"
