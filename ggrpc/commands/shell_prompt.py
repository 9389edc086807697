"""The prompt of `ggrpc shell`, with history and completion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

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
from ggrpc.engine.sharing.workspace import OPS, Workspace
from ggrpc.types import GGMLType


class ShellCompleter(Completer):
    """Completes verbs, ops, types, tensor names and paths.

    Args:
        workspace: provides the names of tensors.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._paths = PathCompleter(expanduser=True)

    def get_completions(
        self, document: Document, event: CompleteEvent
    ) -> Iterable[Completion]:
        """Yield the completions of the word at the cursor."""
        *before, word = document.text_before_cursor.split(" ")
        for choice in self._choices(before):
            if choice.startswith(word):
                yield Completion(choice, -len(word))
        if before and before[0] in ("set", "get", "run", "load"):
            yield from self._paths.get_completions(Document(word), event)

    def _choices(self, before: list[str]) -> Iterator[str]:
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
            yield from (*self._workspace.stored, *self._workspace.nodes)


def history_of(path: Path) -> History:
    """The history in a file, or in memory if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def typed_lines(workspace: Workspace, history: History) -> Iterator[str]:
    """Yield typed lines until Ctrl-D; Ctrl-C discards a line."""
    session: PromptSession[str] = PromptSession(
        history=history,
        completer=ShellCompleter(workspace),
        complete_while_typing=False,
    )
    while True:
        try:
            yield session.prompt(f"{workspace.server.endpoint}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
