"""`ggrpc mem`: shows the free and used device memory of servers."""

from __future__ import annotations

from typing import Any

import typer

from ggrpc.commands.endpoints import Endpoints
from ggrpc.commands.environment import environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.fleet import NOTE, REASON, Fleet, Protocol, Timeout
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders
from ggrpc.engine.client.client import Client
from ggrpc.units import format_size

EXAMPLES = ("ggrpc mem localhost", "ggrpc mem gpu1:50052,gpu2:50052 --json")

COLUMNS = (
    Column("endpoint", "ENDPOINT"),
    Column("device", "DEVICE", right=True),
    Column("memory_free_bytes", "FREE", format_size, right=True),
    Column("memory_used_bytes", "USED", format_size, right=True),
    Column("memory_total_bytes", "TOTAL", format_size, right=True),
    REASON,
    NOTE,
)


def mem(
    context: typer.Context,
    endpoints: Endpoints = None,
    timeout: Timeout = 5,
    protocol: Protocol = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Show the device memory of servers.

    ENDPOINT is host:port, [v6]:port, or a host alone (port 50052). Several endpoints
    are queried in parallel: lists with commas as in llama.cpp's --rpc, ranges such as
    node[01-16]:50052, @FILE with one endpoint per line, or - for stdin. Without
    ENDPOINT, the command reads $GGRPC_ENDPOINTS.
    """
    listing = Listing(COLUMNS, as_json, not no_headers)
    fleet = Fleet(endpoints, timeout, protocol)
    return fleet.survey(environment_of(context), _memory, listing)


def _memory(client: Client, device: int) -> dict[str, Any]:
    memory = client.memory(device)
    return {
        "memory_free_bytes": memory.free,
        # Some backends claim more free memory than there is.
        "memory_used_bytes": None
        if memory.free > memory.total
        else memory.total - memory.free,
        "memory_total_bytes": memory.total,
    }
