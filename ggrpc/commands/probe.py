"""`ggrpc probe`: shows the version, devices and latency of servers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from ggrpc.commands.endpoints import Endpoints
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.fleet import NOTE, REASON, Fleet, Protocol, Timeout
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders
from ggrpc.engine.client.client import Client
from ggrpc.engine.wire.dialects import superseded_on
from ggrpc.engine.wire.introduction import Maker
from ggrpc.units import format_ms, format_size

EXAMPLES = ("ggrpc probe localhost", "ggrpc probe gpu1:50052,gpu2:50052 --json")

T = TypeVar("T")

NO_LIMIT = 1 << 63  # llama.cpp's CPU backend reports SIZE_MAX


def _buffer_size(size: int) -> str:
    return "no limit" if size >= NO_LIMIT else format_size(size)


COLUMNS = (
    Column("endpoint", "ENDPOINT"),
    Column("protocol", "PROTOCOL"),
    Column("clients", "LLAMA.CPP BUILDS", spare=3),
    Column("device", "DEVICE", right=True),
    Column("alignment_bytes", "ALIGNMENT", format_size, right=True, spare=4),
    Column("max_buffer_bytes", "LARGEST BUFFER", _buffer_size, right=True, spare=2),
    Column("memory_free_bytes", "FREE", format_size, right=True),
    Column("memory_total_bytes", "TOTAL", format_size, right=True),
    Column("latency_ms", "LATENCY", format_ms, right=True, spare=1),
    REASON,
    NOTE,
)


def probe(
    context: typer.Context,
    endpoints: Endpoints = None,
    timeout: Timeout = 5,
    protocol: Protocol = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Show version, devices and latency of servers.

    ENDPOINT is host:port, [v6]:port, or a host alone (port 50052). Several endpoints
    are queried in parallel: lists with commas as in llama.cpp's --rpc, ranges such as
    node[01-16]:50052, @FILE with one endpoint per line, or - for stdin. Without
    ENDPOINT, the command reads $GGRPC_ENDPOINTS.

    If one of several servers fails, its row has the REASON, and stderr the whole error.
    A narrow terminal shows fewer columns. llama.cpp's own server handles one client at
    a time: a probe gets no answer while another client is connected.
    """
    listing = Listing(COLUMNS, as_json, not no_headers)
    fleet = Fleet(endpoints, timeout, protocol)
    return fleet.survey(environment_of(context), _device_row, listing)


def _device_row(client: Client, device: int) -> dict[str, Any]:
    times = []

    def timed(ask: Callable[[int], T]) -> T:
        start = time.perf_counter()
        answer = ask(device)
        times.append(time.perf_counter() - start)
        return answer

    alignment, largest = timed(client.alignment), timed(client.max_size)
    memory = timed(client.memory)
    return {
        "protocol": str(client.version),
        "clients": _clients(client),
        "alignment_bytes": alignment,
        "max_buffer_bytes": largest,
        "memory_free_bytes": memory.free,
        "memory_total_bytes": memory.total,
        "latency_ms": round(min(times) * 1e3, 3),  # the one that load delayed least
    }


def _clients(client: Client) -> str | None:
    """The builds of llama.cpp that can be clients; None if it is unknown."""
    if client.identity.refusal:
        return None
    if client.maker is Maker.GGRPC_ADAPTIVE:
        return f"all (ggrpc, 1.0 to {client.version.major}.{client.version.minor})"
    until = superseded_on(client.version)
    since = f"since {client.dialect.since}"
    return f"{since}, until {until}" if until else since
