"""`ggrpc devices`: lists the compute devices of this machine, and tunes them."""

from __future__ import annotations

from typing import Annotated

import typer

from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.progress import bar
from ggrpc.devices import catalogue
from ggrpc.devices.catalogue import DeviceListing
from ggrpc.units import format_size

EXAMPLES = ("ggrpc devices", "ggrpc devices --tune")

Tune = Annotated[
    bool,
    typer.Option(
        "--tune",
        help="Measure the best work-group shapes of each OpenCL device, and save them "
        "for 'ggrpc serve'.",
    ),
]

COLUMNS = (
    Column("name", "NAME"),
    Column("description", "DESCRIPTION", wraps=True),
    Column("memory_free_bytes", "FREE", format_size, right=True),
    Column("memory_total_bytes", "TOTAL", format_size, right=True),
    Column("max_buffer_bytes", "LARGEST", format_size, right=True, spare=1),
    Column(
        "usable",
        "USABLE",
        lambda usable: "yes" if usable else "no",
        styles={"yes": "green", "no": "red"},
    ),
    Column("reason", "REASON", wraps=True),
)

TUNED = (
    Column("device", "DEVICE"),
    Column("shape", "SHAPE"),
    Column("default", "DEFAULT", right=True),
    Column("best", "BEST", right=True),
    Column("default_ms", "DEFAULT MS", "{:.2f}".format, right=True),
    Column("best_ms", "BEST MS", "{:.2f}".format, right=True),
)


def devices(
    context: typer.Context,
    tune: Tune = False,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> None:
    """List the devices of this machine.

    'ggrpc serve --device' takes these names. Devices that cannot be used are listed
    with the reason.
    """
    environment = environment_of(context)
    if tune:
        rows = _tuned(environment)
        Listing(TUNED, as_json, not no_headers).show(environment, rows)
        return
    rows = [_row(entry) for entry in catalogue.entries()]
    Listing(COLUMNS, as_json, not no_headers).show(environment, rows)
    if all(row["name"] == "cpu" for row in rows):
        environment.note("no OpenCL driver is installed on this machine")


def _tuned(environment: Environment) -> list[Row]:
    """Measure every device; one row for each choice."""
    rows: list[Row] = []
    for tuning in catalogue.tunings():
        with bar(environment, tuning.name, tuning.trials, steps=True) as done:
            for choice in tuning.run():
                done(1)
                rows.append(
                    {
                        "device": tuning.name,
                        "shape": " x ".join(choice.fields),
                        "default": " x ".join(map(str, choice.default)),
                        "best": " x ".join(map(str, choice.best)),
                        "default_ms": choice.default_ms,
                        "best_ms": choice.best_ms,
                    }
                )
    return rows


def _row(entry: DeviceListing) -> Row:
    return {
        "name": entry.name,
        "description": entry.description,
        "memory_free_bytes": entry.free,
        "memory_total_bytes": entry.total,
        "max_buffer_bytes": entry.largest,
        "usable": entry.unusable_reason is None,
        "reason": entry.unusable_reason,
    }
