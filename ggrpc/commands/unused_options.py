"""Refuses options that would have no effect in a command."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from ggrpc.errors import ConfigError


def was_given(context: typer.Context, name: str) -> bool:
    """Whether an option was typed before or after the command.

    A default, or a value from the environment, does not count.

    Args:
        context: the context of the command.
        name: the name of the parameter.
    """
    contexts = [context, context.parent] if context.parent else [context]
    sources = [each.get_parameter_source(name) for each in contexts]
    return any(
        source is not None and source.name == "COMMANDLINE" for source in sources
    )


def refuse_unused(context: typer.Context, names: Iterable[str], reason: str) -> None:
    """Refuse options that have no effect.

    Args:
        context: the context of the command.
        names: the names of the parameters.
        reason: why they have no effect, as in `without -c`.

    Raises:
        ConfigError: one of the options was typed.
    """
    for name in names:
        if was_given(context, name):
            raise ConfigError(f"{_flag(context, name)} has no effect {reason}")


def _flag(context: typer.Context, name: str) -> str:
    params = [*context.command.params]
    if context.parent:
        params += context.parent.command.params
    return next(param.opts[-1] for param in params if param.name == name)
