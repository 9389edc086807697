"""`ggrpc check`: tests whether servers follow the protocol and compute correctly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import inf
from typing import Annotated, Any

import typer

from ggrpc.commands.endpoints import Endpoints, endpoints_of
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.fleet import (
    OpTableDate,
    Protocol,
    Timeout,
    reason_of,
    show_with_verdicts,
)
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.progress import bar
from ggrpc.commands.tls_options import client_options
from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.checking.checker import Checker, CheckSettings, Finding
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.client.registry import open_server
from ggrpc.errors import GgrpcError

EXAMPLES = (
    "ggrpc check localhost",
    "ggrpc check node[01-16]:50052 --full --json",
)

Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Test all ops and types, not only those of language models. llama.cpp's "
        "server exits if its backend lacks one.",
    ),
]
All = Annotated[bool, typer.Option("--all", help="Show passed and skipped checks too.")]

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

    It tests every command of the protocol, including edge cases. It computes small
    graphs on each device and on the local cpu device, and compares the results within
    the precision of types and ops. With --full it also sends requests that servers
    refuse and may log, such as for more memory than there is. The output is a summary
    of each device, each failed check, and a last line for each server; with --json, all
    checks, one per line. The exit code is 1 if a check failed.

    ENDPOINTs have the same form as for 'ggrpc probe'; they are checked one by one.
    llama.cpp's server handles one client at a time, so disconnect its other clients.
    """
    environment = environment_of(context)
    servers = endpoints_of(endpoints, environment)
    options = client_options(environment, timeout, protocol, op_table)
    settings = _settings(full, replace(options, purpose="check"))
    listing = Listing(COLUMNS, as_json, not no_headers)
    codes: list[ExitCode] = []
    shown: list[Row] = []
    verdicts: list[Row] = []
    try:
        for server in servers:
            rows: list[Row] = []
            error = _check(server, settings, environment, rows)
            failed = [row for row in rows if row["result"] == "failed"]
            shown += rows if show_all or as_json else [*_summary(rows), *failed]
            verdicts.append(_verdict(server, rows, error))
            codes.append(_code(rows, failed, error))
    finally:  # Ctrl-C keeps what is done
        show_with_verdicts(environment, listing, shown, verdicts)
    if ExitCode.CHECK_FAILED in codes:
        return ExitCode.CHECK_FAILED
    return code_of_several(codes)


def _settings(full: bool, options: ClientOptions) -> CheckSettings:
    return CheckSettings(lambda to: open_server(to, options), CpuDevice(), full)


def _check(
    server: Endpoint, settings: CheckSettings, environment: Environment, rows: list[Row]
) -> GgrpcError | None:
    """Check one server, and append its rows until it fails with an error."""
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
        return error
    return None


def _code(rows: list[Row], failed: list[Row], error: GgrpcError | None) -> ExitCode:
    if error and not rows:
        return code_of(error)
    return ExitCode.CHECK_FAILED if error or failed else ExitCode.OK


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


def _summary(rows: list[Row]) -> Iterator[Row]:
    """One row for each part of each device."""
    counts: dict[tuple[Any, ...], Counter[str]] = {}
    for row in rows:
        key = row["endpoint"], row["device"], row["part"]
        counts.setdefault(key, Counter())[row["result"]] += 1
    for (endpoint, device, part), count in counts.items():
        named = {"endpoint": endpoint, "device": device, "part": part}
        yield {**named, **_counted(count)}


def _verdict(server: Endpoint, rows: list[Row], error: GgrpcError | None) -> Row:
    """The last line of a server."""
    counted = _counted(Counter(row["result"] for row in rows))
    if error:
        details = filter(None, (counted["detail"], reason_of(error)))
        counted |= {"result": "failed", "detail": ", ".join(details)}
    return {"endpoint": str(server), "part": "all", **counted}


def _counted(count: Counter[str]) -> dict[str, str]:
    return {
        "check": f"all {count.total()}",
        "result": "failed" if count["failed"] else "ok",
        "detail": ", ".join(f"{count[what]} {what}" for what in sorted(count)),
    }
