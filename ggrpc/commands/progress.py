"""A bar on stderr for work that takes long; nothing where nobody looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ggrpc.commands.environment import Environment

Moved = Callable[[int], None]


@contextmanager
def bar(
    environment: Environment, what: str, total: int, *, steps: bool = False
) -> Iterator[Moved]:
    """Show how far some work is.

    Args:
        environment: its stderr takes the bar, where that is a terminal.
        what: the work.
        total: its bytes.
        steps: whether it is steps instead that are counted.

    Yields:
        What to call with the bytes or steps that are done; any thread may.
    """
    if environment.quiet or not environment.stderr.isatty():
        yield lambda count: None
        return
    # Here and not above: it takes a while, and a pipe needs none of it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
    ]
    if steps:
        columns.append(MofNCompleteColumn())
    else:
        columns += [DownloadColumn(binary_units=True), TransferSpeedColumn()]
    columns.append(TimeRemainingColumn())
    console = Console(file=environment.stderr, width=environment.width)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
