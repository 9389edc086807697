"""`ggrpc`: puts the commands together, and turns every error into a line and a code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, cast

import typer
from typer.core import TyperGroup

from ggrpc import __version__
from ggrpc.commands import (
    bench,
    cache,
    check,
    devices,
    inspect,
    mem,
    probe,
    pull,
    push,
    record,
    replay,
    serve,
    shell,
    tls,
    tunnel,
)
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of
from ggrpc.errors import GgrpcError

# Typer depends on click or brings a copy of it; either way this is its UsageError.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

NO_CLIENTS = ("serve", "devices", "cache", "inspect")  # they ask no server

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
    sys.exit(run(sys.argv[1:], Environment.of_process()))


def run(arguments: Sequence[str], environment: Environment) -> int:
    """Run a command.

    Returns:
        Its exit code.
    """
    try:
        # The result is what the command returned, or the code of a typer.Exit.
        result = root().main(
            args=list(arguments) or ["--help"],
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
    finally:
        tls.forget(environment)
    return int(result or ExitCode.OK)


def root() -> TyperGroup:
    """The whole command line."""
    app = typer.Typer(
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,  # plain help: the same in a terminal and in a pipe
    )
    app.callback(epilog=_codes() + _examples(EXAMPLES))(_ggrpc)
    app.command(epilog=_examples(serve.EXAMPLES))(serve.serve)
    app.command(epilog=_examples(probe.EXAMPLES))(probe.probe)
    app.command(epilog=_examples(mem.EXAMPLES))(mem.mem)
    app.command(epilog=_examples(tunnel.EXAMPLES))(tunnel.tunnel)
    app.command(epilog=_examples(bench.EXAMPLES))(bench.bench)
    app.command(epilog=_examples(check.EXAMPLES))(check.check)
    app.command(epilog=_examples(shell.EXAMPLES))(shell.shell)
    app.command(epilog=_examples(pull.EXAMPLES))(pull.pull)
    app.command(epilog=_examples(push.EXAMPLES))(push.push)
    app.command(epilog=_examples(record.EXAMPLES))(record.record)
    app.command(epilog=_examples(replay.EXAMPLES))(replay.replay)
    app.command(epilog=_examples(inspect.EXAMPLES))(inspect.inspect)
    app.command(epilog=_examples(devices.EXAMPLES))(devices.devices)
    app.add_typer(_cache(), name="cache", epilog=_examples(cache.EXAMPLES))
    group = cast(TyperGroup, typer.main.get_command(app))
    # These may stand before the command and behind it.
    anywhere = [param for param in group.params if param.name in ("quiet", "debug")]
    clients = [param for param in group.params if param.name in tls.NAMES]
    for name, command in group.commands.items():
        command.params += anywhere if name in NO_CLIENTS else [*clients, *anywhere]
        if isinstance(command, TyperGroup):
            for part in command.commands.values():
                part.params += anywhere
    return group


def _cache() -> typer.Typer:
    app = typer.Typer(help="Look after the tensors that a worker keeps on its disk.")
    for part in cache.ls, cache.add, cache.verify, cache.prune, cache.path:
        app.command(epilog=_examples(cache.EXAMPLES_OF[part.__name__]))(part)
    return app


def _show_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        environment_of(context).write(f"ggrpc {__version__}\n")
        raise typer.Exit


def _be_quiet(context: typer.Context, times: int) -> None:
    environment_of(context).quiet += times


def _show_traces(context: typer.Context, wanted: bool) -> None:
    environment_of(context).debug |= wanted


def _ggrpc(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
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
            help="Hide notes; -qq: warnings too.",
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
    tls: tls.Wanted = False,
    tls_ca: tls.Ca = None,
    tls_cert: tls.Cert = None,
    tls_key: tls.Key = None,
) -> None:
    """Operate fleets of ggml RPC servers, the workers of llama.cpp's --rpc.

    'ggrpc COMMAND -h' says more of a command, with examples. In Python the same is
    there: import ggrpc, and help(ggrpc).
    """


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
    return f"{message[:1].lower()}{message[1:]}; see '{command} --help'"


def _bug(error: Exception, shown: bool) -> str:
    advice = "" if shown else "; run it again with --debug to see where"
    return f"unexpected {type(error).__name__}: {error}{advice}"
