"""The prompt of `ggrpc shell`: history, and completion of all that can be named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import (
    CompleteEvent,
    Completer,
    Completion,
    PathCompleter,
)
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory

from ggrpc.commands.shell_verbs import VERBS
from ggrpc.types import GGMLType

if TYPE_CHECKING:
    from ggrpc.engine.sharing.workspace import Workspace


class ShellCompleter(Completer):
    """Knows what may stand where the cursor is.

    Args:
        bench: whose names there are.
    """

    def __init__(self, bench: Workspace) -> None:
        self._bench = bench
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, event: CompleteEvent
    ) -> Iterable[Completion]:
        *before, word = document.text_before_cursor.split(" ")
        for choice in self._choices(before):
            if choice.startswith(word):
                yield Completion(choice, -len(word))
        if before and before[0] in ("set", "get", "run", "load"):
            yield from self._paths.get_completions(Document(word), event)

    def _choices(self, before: list[str]) -> Iterator[str]:
        from ggrpc.engine.sharing.workspace import OPS

        if not before:
            yield from VERBS
            return
        verb, *arguments = before
        if verb == "help" or (verb == "node" and len(arguments) == 1):
            yield from sorted(OPS)
        if verb == "help":
            yield from VERBS
        elif verb == "alloc" and len(arguments) == 1:
            yield from (type.name.lower() for type in GGMLType)
        elif arguments or verb != "node":
            yield from (*self._bench.stored, *self._bench.nodes)


def history_of(path: Path) -> History:
    """The lines typed before, where they can be kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def typed_lines(bench: Workspace, history: History) -> Iterator[str]:
    """What a person types, until Ctrl-D; Ctrl-C gives up a line."""
    session: PromptSession[str] = PromptSession(
        history=history, completer=ShellCompleter(bench), complete_while_typing=False
    )
    while True:
        try:
            yield session.prompt(f"{bench.server.endpoint}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
