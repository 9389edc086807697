"""`ggrpc probe`: what servers are there, and how fast they answer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from ggrpc.commands.endpoints import Endpoints
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.fleet import Fleet, Protocol, Timeout
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders
from ggrpc.units import format_ms, format_size

if TYPE_CHECKING:
    from ggrpc.engine.client.client import Client

EXAMPLES = ("ggrpc probe localhost", "ggrpc probe gpu1:50052,gpu2:50052 --json")

ROUND_TRIPS = 3  # of which the best counts: the others met something else on the way
NO_LIMIT = 1 << 63  # llama.cpp's CPU says SIZE_MAX


def _buffer_size(size: int) -> str:
    return "no limit" if size >= NO_LIMIT else format_size(size)


COLUMNS = (
    Column("endpoint", "ENDPOINT"),
    Column("protocol", "PROTOCOL"),
    Column("clients", "FOR LLAMA.CPP"),
    Column("device", "DEVICE", right=True),
    Column("alignment_bytes", "ALIGNMENT", format_size, right=True),
    Column("max_size_bytes", "LARGEST BUFFER", _buffer_size, right=True),
    Column("memory_free_bytes", "FREE", format_size, right=True),
    Column("memory_total_bytes", "TOTAL", format_size, right=True),
    Column("latency_ms", "LATENCY", format_ms, right=True),
)


def probe(
    context: typer.Context,
    endpoints: Endpoints = None,
    timeout: Timeout = 5,
    protocol: Protocol = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Show version, devices, latency of servers.

    ENDPOINT is host:port, [v6]:port, or a host alone (port 50052). Several are asked at
    once: lists with commas as llama.cpp's --rpc takes them, ranges such as
    node[01-16]:50052, @FILE with one a line, - for stdin. Where none is given, those of
    $GGRPC_ENDPOINTS are.

    llama.cpp's own server talks to one client at a time: while it works for one, a
    probe of it gets no answer.
    """
    listing = Listing(COLUMNS, as_json, not no_headers)
    fleet = Fleet(endpoints, timeout, protocol)
    return fleet.survey(environment_of(context), _facts, listing)


def _facts(client: Client, device: int) -> dict[str, Any]:
    memory = client.memory(device)
    asked = [_alignment(client, device) for _ in range(ROUND_TRIPS)]
    return {
        "protocol": str(client.version),
        "clients": _clients(client),
        "alignment_bytes": asked[0][0],
        "max_size_bytes": client.max_size(device),
        "memory_free_bytes": memory.free,
        "memory_total_bytes": memory.total,
        "latency_ms": min(ms for _, ms in asked),
    }


def _clients(client: Client) -> str:
    """Which builds of llama.cpp go on with this version."""
    from ggrpc.engine.wire.dialects import spoken_until

    until = spoken_until(client.version)
    since = f"since {client.dialect.since}"
    return f"{since}, until {until}" if until else since


def _alignment(client: Client, device: int) -> tuple[int, float]:
    """A device's alignment, and how many milliseconds the answer took."""
    start = time.perf_counter()
    alignment = client.alignment(device)
    return alignment, round((time.perf_counter() - start) * 1e3, 3)
