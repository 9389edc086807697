"""`ggrpc devices`: what this machine has to compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ggrpc.commands.environment import environment_of
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.units import format_size

if TYPE_CHECKING:
    from ggrpc.devices.catalogue import Entry

EXAMPLES = ("ggrpc devices",)

COLUMNS = (
    Column("name", "NAME"),
    Column("description", "DESCRIPTION", wraps=True),
    Column("memory_free_bytes", "FREE", format_size, right=True),
    Column("memory_total_bytes", "TOTAL", format_size, right=True),
    Column(
        "usable",
        "USABLE",
        lambda usable: "yes" if usable else "no",
        styles={"yes": "green", "no": "red"},
    ),
    Column("why_not", "WHY NOT", wraps=True),
)


def devices(
    context: typer.Context, as_json: Json = False, no_headers: NoHeaders = False
) -> None:
    """List the devices of this machine.

    The names are those that serve takes. What cannot be used is listed too, with the
    reason.
    """
    from ggrpc.devices.catalogue import entries

    environment = environment_of(context)
    rows = [_row(entry) for entry in entries()]
    Listing(COLUMNS, as_json, not no_headers).show(environment, rows)
    if all(row["name"] == "cpu" for row in rows):
        environment.note("no OpenCL driver is installed here")


def _row(entry: Entry) -> Row:
    return {
        "name": entry.name,
        "description": entry.description,
        "memory_free_bytes": entry.free,
        "memory_total_bytes": entry.total,
        "usable": entry.why_not is None,
        "why_not": entry.why_not,
    }
