"""Prints rows as a table in a terminal, as plain columns in a pipe, or as JSON.

More than `MAX` rows are printed as plain columns in a terminal too. A row is a flat
mapping whose keys name the units. Cells are plain text, never markup, and control
characters in them are escaped. Floats have `DIGITS` significant digits in JSON;
infinity and NaN, which JSON lacks, become null.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ggrpc.commands.environment import Environment
from ggrpc.untrusted import printable, to_json

if TYPE_CHECKING:
    from rich.table import Table

Row = Mapping[str, Any]

# Largest number of rows laid out as a table: ten thousand would take ten seconds.
MAX = 500
DIGITS = 6

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
NoHeaders = Annotated[
    bool, typer.Option("--no-headers", help="Omit the header line, and totals.")
]


class Column(NamedTuple):
    """A column of a table, or a line of a record.

    Attributes:
        key: the key of its values in the rows; a missing key or None prints `-`.
        header: its title.
        text: formats a value.
        right: whether it is right-aligned, as numbers are.
        wraps: whether long text may take several lines.
        is_rare: whether to leave it out of the text if no row has a value.
        styles: the colours of cells that show a state, keyed by cell text.
        spare: if a terminal is too narrow, the columns with the highest number are left
            out first; those with 0 are always shown.
    """

    key: str
    header: str
    text: Callable[[Any], str] = str
    right: bool = False
    wraps: bool = False
    is_rare: bool = False
    styles: Mapping[str, str] = {}
    spare: int = 0

    def cell(self, row: Row) -> str:
        """A row's text in this column."""
        value = row.get(self.key)
        return "-" if value is None else printable(self.text(value))


class Listing(NamedTuple):
    """The output format of a command.

    Attributes:
        columns: the columns for text output.
        json: whether to print JSON instead of text.
        headers: whether text has a header line, and totals.
    """

    columns: Sequence[Column]
    json: bool
    headers: bool

    def show(
        self, environment: Environment, rows: Iterable[Row], totals: Iterable[Row] = ()
    ) -> None:
        """Write rows to stdout; write nothing if there are no rows.

        Args:
            environment: provides stdout.
            rows: the rows.
            totals: the last rows, for text with headers only.
        """
        rows = list(rows)
        if self.headers and not self.json:
            rows += totals
        if not rows:
            return
        if self.json:
            lines = [json_line(row, DIGITS) for row in rows]
        else:
            lines = self._for(rows)._as_text(environment, rows)
        environment.write("".join(f"{line}\n" for line in lines))

    def _for(self, rows: list[Row]) -> Listing:
        """The same without rare columns that have no value in any row."""
        columns = [
            column
            for column in self.columns
            if not column.is_rare or any(row.get(column.key) for row in rows)
        ]
        return self._replace(columns=columns)

    def _as_text(self, environment: Environment, rows: list[Row]) -> list[str]:
        if environment.in_terminal and len(rows) <= MAX:
            return self._for_terminal(environment, rows)
        return _aligned(self._cells(rows), [c.right for c in self.columns])

    def _cells(self, rows: Iterable[Row]) -> list[list[str]]:
        titles = [[column.header for column in self.columns]] if self.headers else []
        return titles + [[c.cell(row) for c in self.columns] for row in rows]

    def _for_terminal(self, environment: Environment, rows: list[Row]) -> list[str]:
        """A table, or one line per cell if the terminal is too narrow for a table."""
        console = environment.console
        fitting = self._fitting(console.width, rows)
        if fitting is None:
            return self._records(rows)
        missing = [c.header for c in self.columns if c not in fitting.columns]
        if missing:
            environment.note(
                f"{', '.join(missing)} left out: widen the terminal, or use --json"
            )
        with console.capture() as capture:
            console.print(fitting._table(rows))
        return [line.rstrip() for line in capture.get().splitlines()]

    def _fitting(self, width: int, rows: list[Row]) -> Listing | None:
        """The same with the columns that fit; None if too many would be left out."""
        for spare in sorted({column.spare for column in self.columns}, reverse=True):
            columns = [column for column in self.columns if column.spare <= spare]
            fitting = self._replace(columns=columns)
            if fitting._least_width(rows) <= width:
                return fitting
        return None

    def _least_width(self, rows: list[Row]) -> int:
        """The smallest width of a table that does not truncate a cell."""
        lines = self._cells(rows)
        for line in lines:
            for at, column in enumerate(self.columns):
                if column.wraps:
                    line[at] = max(line[at].split(), key=len, default="")
        return max(map(len, _aligned(lines, [True] * len(self.columns))))

    def _table(self, rows: list[Row]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=self.headers)
        for column in self.columns:
            table.add_column(
                Text(column.header),
                justify="right" if column.right else "left",
                no_wrap=not column.wraps,
            )
        for row in rows:
            cells = [(column.cell(row), column.styles) for column in self.columns]
            table.add_row(
                *(Text.assemble((t, styles.get(t, ""))) for t, styles in cells)
            )
        return table

    def _records(self, rows: list[Row]) -> list[str]:
        lines: list[str] = []
        for row in rows:
            pairs = [[column.header, column.cell(row)] for column in self.columns]
            lines += ([""] if lines else []) + _aligned(pairs, [False, False])
        return lines


def json_line(row: Row, digits: int | None = None) -> str:
    """A row as JSON.

    Args:
        row: the row; lists and mappings may be nested in it.
        digits: the significant digits of floats; None keeps all.
    """
    return to_json(_as_json(row, digits))


def _as_json(value: Any, digits: int | None) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if digits is None else float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {key: _as_json(one, digits) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(one, digits) for one in value]
    return value


def _aligned(cells: list[list[str]], right: Sequence[bool]) -> list[str]:
    """Lines of text with aligned columns, two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if at_right else text.ljust(width)
            for text, width, at_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in cells
    ]
