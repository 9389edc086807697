"""`ggrpc pull`: saves tensors that an open session holds on a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.endpoints import OneEndpoint, one_endpoint
from ggrpc.commands.environment import environment_of
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.unused_options import refuse_unused
from ggrpc.endpoint import Endpoint
from ggrpc.engine.sharing.session_sharing import SharedSession, shared_sessions
from ggrpc.errors import RefusedError
from ggrpc.units import format_size
from ggrpc.untrusted import to_file_name

EXAMPLES = (
    "ggrpc pull localhost",
    "ggrpc pull localhost weights -o weights.npy",
)

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", hidden=True)]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        show_default="NAME.npy",
        help="Output file, or a folder for several tensors; .npy stores values, any "
        "other suffix stores raw bytes. In a folder, / in the name of a tensor becomes "
        "%2F.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]

COLUMNS = (
    Column("name", "NAME"),
    Column("type", "TYPE"),
    Column("ne", "NE", lambda ne: "x".join(map(str, ne))),
    Column("size_bytes", "SIZE", format_size, right=True),
    Column("file", "FILE"),
)


def pull(
    context: typer.Context,
    endpoint: OneEndpoint,
    names: Names = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> None:
    """Save tensors that an open session holds.

    Only a session can read its own memory on a server. This command therefore asks the
    process that has the session: your 'ggrpc push --hold', or your 'ggrpc shell' in
    which you typed 'hold', on this machine. Without a NAME, it lists the shared
    tensors.
    """
    environment = environment_of(context)
    if not names:
        refuse_unused(context, ("output", "force"), "without a NAME")
    sessions = _sessions(one_endpoint(endpoint))
    listing = Listing(COLUMNS, as_json, not no_headers)
    if not names:
        rows: list[Row] = [row for each in sessions for row in each.tensors]
        listing._replace(columns=COLUMNS[:-1]).show(environment, rows)
        return
    wanted = [(name, _holder(sessions, endpoint, name)) for name in names]
    saved: list[Row] = []
    try:
        for name, session in wanted:
            path = _path(output, names, name)
            session.save(name, path, force)
            (row,) = (row for row in session.tensors if row["name"] == name)
            saved.append({**row, "file": str(path)})
    finally:  # list what was saved, even if a later tensor failed
        listing.show(environment, saved)


def _sessions(endpoint: Endpoint) -> list[SharedSession]:
    sessions = [
        session for session in shared_sessions() if session.endpoint == endpoint
    ]
    if not sessions:
        raise RefusedError(
            f"none of your processes holds tensors on {endpoint}: start one with "
            "'ggrpc push --hold', or type 'hold' in a 'ggrpc shell'"
        )
    return sessions


def _path(output: Path | None, names: list[str], name: str) -> Path:
    """The output file of a tensor; several tensors go into a folder."""
    if output and len(names) == 1 and not os.path.isdir(output):
        return output
    return (output or Path()) / to_file_name(name, ".npy")


def _holder(sessions: list[SharedSession], endpoint: str, name: str) -> SharedSession:
    for session in sessions:
        if any(row["name"] == name for row in session.tensors):
            return session
    raise RefusedError(f"no tensor '{name}' is shared on {endpoint}")
