"""`ggrpc push`: uploads tensors to the caches or the memory of servers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.endpoints import Endpoints, endpoints_of
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.fleet import (
    REASON,
    Answer,
    DeviceNumber,
    Protocol,
    Timeout,
    all_at_once,
    show,
)
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.progress import Moved, bar
from ggrpc.commands.tls_options import client_options
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.accelerated_hash import hashing_for
from ggrpc.engine.cache.index import Index
from ggrpc.engine.cache.models import files_of
from ggrpc.engine.cache.warming import ModelWeights, warm
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.client.registry import open_server
from ggrpc.engine.client.remote_device import RemoteServer
from ggrpc.engine.files.tensors import read_tensors
from ggrpc.engine.sharing.session_sharing import SharingServer
from ggrpc.engine.sharing.upload import UploadedTensors
from ggrpc.errors import ConfigError, GgrpcError
from ggrpc.units import format_size

EXAMPLES = (
    "ggrpc push model.gguf node[01-16]",
    "ggrpc push model.gguf node01 --dry-run",
    "ggrpc push activations.npy localhost --hold",
)

File = Annotated[Path, typer.Argument(metavar="FILE", hidden=True)]
Hold = Annotated[
    bool,
    typer.Option(
        "--hold",
        help="Write the tensors into memory, even those of a GGUF, and keep them there "
        "until Ctrl-C; 'ggrpc pull' can save them meanwhile.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be sent; send no weights.")
]

COLUMNS = (
    Column("endpoint", "ENDPOINT"),
    Column("present", "PRESENT", right=True),
    Column("present_bytes", "PRESENT SIZE", format_size, right=True),
    Column("sent", "SENT", right=True),
    Column("sent_bytes", "SENT SIZE", format_size, right=True),
    Column("seconds", "SECONDS", "{:.2f}".format, right=True),
    REASON,
)
# The columns of a dry run; the keys are those of a real run.
PLANNED = (
    *COLUMNS[:3],
    Column("sent", "TO SEND", right=True),
    Column("sent_bytes", "SIZE TO SEND", format_size, right=True),
    REASON,
)

POLL_SECONDS = 5.0  # between two checks that a server still holds the tensors

Work = Callable[["RemoteServer", Moved], Row]


def push(
    context: typer.Context,
    file: File,
    endpoints: Endpoints = None,
    device: DeviceNumber = 0,
    hold: Hold = False,
    dry_run: DryRun = False,
    timeout: Timeout = 60,
    protocol: Protocol = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Send the tensors of a file to servers.

    FILE is a GGUF, .npy, .npz or .safetensors; ENDPOINTs have the same form as for
    'ggrpc probe'. The large tensors of a GGUF (over 10 MiB) are sent to the servers'
    caches unless they are already there, so that a client that loads the model later
    need not send them. This works with servers of any project and version. Other
    tensors are written into memory, read back and compared; without --hold the server
    frees them when the command ends.

    PRESENT counts the tensors that a server already had. The timeout applies to
    connecting, and to a server that makes no progress: it must receive data, and look
    it up in its cache, at a minimum rate.
    """
    environment = environment_of(context)
    servers = endpoints_of(endpoints, environment)
    warms = file.suffix == ".gguf" and not hold
    if dry_run and not warms:
        raise ConfigError("--dry-run is for the weights of a GGUF, without --hold")
    options = client_options(environment, timeout, protocol)
    held: list[RemoteServer] | None = [] if hold else None
    pushing = _warming(file, device, dry_run) if warms else _storing(file, device, held)
    with pushing as (total, work):
        with bar(environment, file.name, total * len(servers)) as moved:

            def to(server: Endpoint) -> Answer:
                return _push_to(server, options, work, total, moved)

            answers = all_at_once(to, servers)
        columns = PLANNED if dry_run else COLUMNS
        listing = Listing(columns, as_json, not no_headers)
        code = show(environment, answers, listing, len(servers))
        if held and len(answers) == len(servers):
            environment.note("tensors are held until Ctrl-C; 'ggrpc pull' fetches them")
            code = _watch(environment, held)
    return code


def _watch(environment: Environment, sessions: list[RemoteServer]) -> ExitCode:
    """Wait until all sessions have ended, and report each that ends."""
    codes: list[ExitCode] = []
    while sessions:
        time.sleep(POLL_SECONDS)
        for session in list(sessions):
            try:
                session.device().synchronize()
            except GgrpcError as error:
                environment.fail(error)
                codes.append(code_of(error))
                sessions.remove(session)
    return code_of_several(codes)


def _push_to(
    server: Endpoint,
    options: ClientOptions,
    work: Work,
    total: int,
    moved: Moved,
) -> Answer:
    arrived = 0

    def count(size: int) -> None:
        nonlocal arrived
        arrived += size
        moved(size)

    start = time.perf_counter()
    try:
        done = work(open_server(server, options), count)
    except GgrpcError as error:
        far = f"{format_size(arrived)} of {format_size(total)} had arrived"
        return Answer(server, error=error, done=far if arrived else "")
    seconds = round(time.perf_counter() - start, 3)
    return Answer(server, [{"endpoint": str(server), **done, "seconds": seconds}])


@contextmanager
def _warming(file: Path, device: int, dry_run: bool) -> Iterator[tuple[int, Work]]:
    """The bytes for each server, and the function that sends them to its cache."""
    with tempfile.TemporaryDirectory() as folder:
        index = Index(Path(folder))
        try:
            files = files_of(file)
            hashing = hashing_for(sum(part.stat().st_size for part in files))
            with ModelWeights(files, index, hashing) as weights:

                def work(server: RemoteServer, moved: Moved) -> Row:
                    with server:
                        device_there = server.device(device).number
                        done = warm(
                            server.client, weights, device_there, dry_run, moved
                        )
                        return {**done._asdict(), "dry_run": dry_run}

                yield weights.size, work
        finally:
            index.close()


@contextmanager
def _storing(
    file: Path, device: int, held: list[RemoteServer] | None
) -> Iterator[tuple[int, Work]]:
    """The bytes for each server, and the function that writes them to its memory.

    Args:
        file: the file with the tensors.
        device: the number of the device.
        held: collects the sessions and keeps them open; None closes each one.
    """
    sizes: Sequence[int] = [loaded.size for loaded in read_tensors(file)]
    with ExitStack() as lasting:

        def work(server: RemoteServer, moved: Moved) -> Row:
            with ExitStack() as session:
                session.enter_context(server)
                server.client.share_timeout()
                pushed = UploadedTensors(server.device(device))
                pushed.push(file, moved)
                if held is not None:
                    session.enter_context(SharingServer(server.endpoint, pushed))
                    lasting.push(session.pop_all())
                    held.append(server)
            return {"sent": len(sizes), "sent_bytes": sum(sizes)}

        yield sum(sizes), work
