"""A group of commands that imports the module of a command only when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand, TyperGroup


class LazyGroup(TyperGroup):
    """A group of commands that have only a name and a summary until they are used.

    Help and completion of command names use the summaries and load nothing.
    """

    _load: Callable[[str], Any] | None = None
    _unloaded: frozenset[str] = frozenset()

    def add_lazily(self, summaries: dict[str, str], load: Callable[[str], Any]) -> None:
        """Add commands that are loaded on use.

        Args:
            summaries: the first line of each command's help, by command name.
            load: imports and builds the command with a name.
        """
        self._load = load
        self._unloaded = frozenset(summaries)
        for name, summary in summaries.items():
            self.add_command(TyperCommand(name, help=summary), name)

    def load(self, name: str) -> None:
        """Replace the placeholder of a command with the command."""
        if self._load and name in self._unloaded:
            self._unloaded -= {name}
            self.add_command(self._load(name), name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the arguments name, and load it."""
        self.load(args[0])
        return super().resolve_command(ctx, args)
