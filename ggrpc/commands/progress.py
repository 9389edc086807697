"""Shows a progress bar on stderr, if stderr is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ggrpc.commands.environment import Environment
from ggrpc.untrusted import printable

Moved = Callable[[int], None]


@contextmanager
def bar(
    environment: Environment, what: str, total: int, *, steps: bool = False
) -> Iterator[Moved]:
    """Show the progress of some work.

    Args:
        environment: provides stderr; without a terminal there is no bar.
        what: the title of the bar.
        total: the number of bytes or steps.
        steps: whether to count steps instead of bytes.

    Yields:
        A function to call with the number of finished bytes or steps, from any thread.
    """
    if environment.quiet or not environment.stderr.isatty():
        yield lambda count: None
        return
    # Imported here: rich loads slowly, and a pipe does not need it.
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
        task = progress.add_task(printable(what), total=total)
        yield lambda count: progress.advance(task, count)
