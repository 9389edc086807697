"""`ggrpc check`: whether servers keep to the protocol, and reckon right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ggrpc.commands.endpoints import Endpoints, endpoints_of
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.fleet import OpTableDate, Protocol, Timeout
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.progress import bar
from ggrpc.errors import GgrpcError

if TYPE_CHECKING:
    from ggrpc.endpoint import Endpoint
    from ggrpc.engine.checking.checker import CheckSettings, Finding

EXAMPLES = (
    "ggrpc check localhost",
    "ggrpc check node[01-16]:50052 --full --json",
)

Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="All ops and types, not only those of language models. A native server "
        "ends when its backend lacks one.",
    ),
]
All = Annotated[
    bool, typer.Option("--all", help="Show what is in order, too, and what it skipped.")
]

COLUMNS = (
    Column("endpoint", "ENDPOINT"),
    Column("device", "DEVICE", right=True),
    Column("part", "PART"),
    Column("check", "CHECK"),
    Column("result", "RESULT", styles={"failed": "red", "ok": "green"}),
    Column("error", "ERROR", "{:.1e}".format, right=True),
    Column("limit", "LIMIT", "{:.1e}".format, right=True),
    Column("detail", "DETAIL", wraps=True),
)


def check(
    context: typer.Context,
    endpoints: Endpoints = None,
    full: Full = False,
    show_all: All = False,
    op_table: OpTableDate = None,
    timeout: Timeout = 60,
    protocol: Protocol = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Check the protocol and the arithmetic of servers.

    Every command of the protocol is tried, at the edges too. Small graphs are computed
    on each device and on the cpu here, and must agree as far as types
    and ops allow. Shown are a summary of each device, and each check that failed; with
    --json all checks, one a line. The exit code is 1 where any failed.

    ENDPOINTs are written as for 'ggrpc probe'; one is checked after the other. A server
    of llama.cpp talks to one client at a time: it must have no other.
    """
    environment = environment_of(context)
    servers = endpoints_of(endpoints, environment)
    settings = _settings(full, timeout, protocol, op_table)
    listing = Listing(COLUMNS, as_json, not no_headers)
    everything = show_all or as_json
    codes = []
    for at, server in enumerate(servers):
        rows: list[Row] = []
        code = _check(server, settings, environment, rows)
        shown = rows if everything else [*_summary(rows), *filter(_failed, rows)]
        listing._replace(headers=listing.headers and at == 0).show(environment, shown)
        codes.append(code)
    if ExitCode.CHECK_FAILED in codes:
        return ExitCode.CHECK_FAILED
    return code_of_several(codes)


def _settings(
    full: bool, timeout: float, protocol: str | None, op_table: str | None
) -> CheckSettings:
    from functools import partial

    from ggrpc.devices.cpu import CpuDevice
    from ggrpc.engine.checking.checker import CheckSettings
    from ggrpc.engine.client.registry import connect

    opener = partial(connect, timeout=timeout, protocol=protocol, op_table=op_table)
    return CheckSettings(opener, CpuDevice(), full)


def _check(
    server: Endpoint, settings: CheckSettings, environment: Environment, rows: list[Row]
) -> ExitCode:
    """Check one server, and add its rows, as far as it goes."""
    from ggrpc.engine.checking.checker import Checker

    try:
        with (
            Checker(server, settings) as checker,
            bar(environment, str(server), checker.total, steps=True) as done,
        ):
            for finding in checker.run():
                rows.append(_row(server, finding))
                done(1)
    except GgrpcError as error:
        named = error.endpoint is not None
        environment.fail(error, str(error) if named else f"{server}: {error}")
        if not rows:
            return code_of(error)
        return ExitCode.CHECK_FAILED
    return ExitCode.CHECK_FAILED if any(map(_failed, rows)) else ExitCode.OK


def _row(server: Endpoint, finding: Finding) -> Row:
    return {
        "endpoint": str(server),
        "device": finding.device,
        "part": finding.part,
        "check": finding.name,
        "result": finding.result.value,
        "error": finding.error if finding.error != inf else None,
        "limit": finding.limit,
        "ms": round(finding.seconds * 1e3, 3),
        "detail": finding.detail or None,
    }


def _failed(row: Row) -> bool:
    return bool(row["result"] == "failed")


def _summary(rows: list[Row]) -> Iterator[Row]:
    """A row for each part of each device."""
    counts: dict[tuple[Any, ...], Counter[str]] = {}
    for row in rows:
        key = row["endpoint"], row["device"], row["part"]
        counts.setdefault(key, Counter())[row["result"]] += 1
    for (endpoint, device, part), count in counts.items():
        yield {
            "endpoint": endpoint,
            "device": device,
            "part": part,
            "check": f"all {count.total()}",
            "result": "failed" if count["failed"] else "ok",
            "detail": ", ".join(f"{count[what]} {what}" for what in sorted(count)),
        }
