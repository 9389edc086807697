"""`ggrpc replay`: runs a recording on other devices, and compares the results."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from ggrpc.commands import tls_options
from ggrpc.commands.endpoints import Endpoints, endpoints_of
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.fleet import OpTableDate, Protocol, Timeout, show_with_verdicts
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.number_checks import finite
from ggrpc.commands.progress import bar
from ggrpc.commands.tls_options import client_options
from ggrpc.commands.unused_options import refuse_unused
from ggrpc.devices.catalogue import Choices, opened_devices
from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.client.registry import open_server
from ggrpc.engine.recording.journal import Journal
from ggrpc.engine.recording.replayer import Replayer, ReplaySettings
from ggrpc.engine.recording.results import Tally
from ggrpc.engine.recording.substitute_weights import GgufWeights
from ggrpc.errors import ConfigError, GgrpcError, RecordingError

EXAMPLES = (
    "ggrpc replay graph.bin localhost",
    "ggrpc replay graph.bin --device cpu --repeat 20",
    "ggrpc replay graph.bin node[01-04] --model llama.gguf --json",
)

CONNECTION_OPTIONS = ("timeout", "protocol", "op_table")

File = Annotated[Path, typer.Argument(metavar="FILE", hidden=True)]
DeviceNames = Annotated[
    str | None,
    typer.Option(
        *("-d", "--device"),
        metavar="NAME,...",
        help="Replay on these devices of this machine, named as in 'ggrpc devices'.",
    ),
]
Repeat = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Run each graph N times for the timings, and restore overwritten inputs "
        "before each run.",
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        metavar="NMSE",
        min=0,
        callback=finite,
        help="Largest normalised mean squared error that counts as equal.",
    ),
]
ModelFile = Annotated[
    Path | None,
    typer.Option(
        metavar="GGUF", help="Model with the weights that the recording lacks."
    ),
]

RESULTS = {"differs": "red", "failed": "red", "same": "green"}
COLUMNS = (
    Column("target", "TARGET"),
    Column("kind", "KIND"),
    Column("name", "NAME", wraps=True),
    Column("count", "COUNT", right=True, spare=1),
    Column("recorded_ms", "RECORDED ms", "{:.3f}".format, right=True, spare=2),
    Column("min_ms", "MIN ms", "{:.3f}".format, right=True, spare=3),
    Column("median_ms", "MEDIAN ms", "{:.3f}".format, right=True),
    Column("p99_ms", "P99 ms", "{:.3f}".format, right=True, spare=5),
    Column("nmse", "NMSE", "{:.1e}".format, right=True),
    Column("largest", "LARGEST", "{:.3g}".format, right=True, spare=4),
    Column("first", "FIRST DIFFERENCE", wraps=True),
    Column("result", "RESULT", styles=RESULTS),
)


def replay(
    context: typer.Context,
    file: File,
    endpoints: Endpoints = None,
    device: DeviceNames = None,
    repeat: Repeat = 1,
    tolerance: Tolerance = 1e-3,
    model: ModelFile = None,
    timeout: Timeout = 60,
    protocol: Protocol = None,
    op_table: OpTableDate = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Run a recording again, and compare the results.

    FILE is the output of 'ggrpc record'; ENDPOINTs have the same form as for 'ggrpc
    probe', and may be servers of any project and version. The recorded requests are
    sent to each server: memory is allocated again, and addresses and op numbers are
    translated. Each tensor that the client read is compared with the recorded result.
    The output shows the time of each kind of graph, and ends with one line for each
    target.

    Weights that the recording lacks come from --model. Without it they are random, and
    a warning says so. The exit code is 1 if a tensor differs.

    The timeout applies to connecting, to each graph, and to a server that makes no
    progress: it must transfer data at a minimum rate, and answer other requests within
    a second on average.
    """
    environment = environment_of(context)
    targets: Sequence[_Target]
    if device:
        if endpoints:
            raise ConfigError("give either --device or ENDPOINTs, not both")
        refuse_unused(
            context, (*CONNECTION_OPTIONS, *tls_options.NAMES), "with --device"
        )
        targets = [_LocalDevices(device)]
    else:
        options = client_options(environment, timeout, protocol, op_table)
        servers = endpoints_of(endpoints or [], environment)
        targets = [_ServerDevices(server, options) for server in servers]
    settings = ReplaySettings(tolerance, repeat, GgufWeights(model) if model else None)
    Journal(file).close()  # fails before a server is contacted, if FILE is invalid
    codes: list[ExitCode] = []
    rows: list[Row] = []
    verdicts: list[Row] = []
    try:
        for target in targets:
            some, verdict, code = _replay(file, target, settings, environment)
            rows += some
            verdicts.append(verdict)
            codes.append(code)
    finally:  # Ctrl-C keeps what is done
        listing = Listing(COLUMNS, as_json, not no_headers)
        show_with_verdicts(environment, listing, rows, verdicts)
    if ExitCode.CHECK_FAILED in codes:
        return ExitCode.CHECK_FAILED
    return code_of_several(codes)


class _LocalDevices(NamedTuple):
    """Replay target: devices of this machine."""

    names: str

    def __str__(self) -> str:
        return self.names

    @contextmanager
    def devices(self) -> Iterator[Sequence[Device]]:
        with opened_devices(self.names, Choices()) as devices:
            yield devices


class _ServerDevices(NamedTuple):
    """Replay target: the devices of a server."""

    endpoint: Endpoint
    options: ClientOptions

    def __str__(self) -> str:
        return str(self.endpoint)

    @contextmanager
    def devices(self) -> Iterator[Sequence[Device]]:
        with open_server(self.endpoint, self.options) as server:
            server.client.share_timeout()
            yield server.devices


_Target = _LocalDevices | _ServerDevices


def _replay(
    file: Path, target: _Target, settings: ReplaySettings, environment: Environment
) -> tuple[list[Row], Row, ExitCode]:
    """Replay on one target; returns the rows up to a failure, and the verdict."""
    tally, code = Tally(), ExitCode.OK
    try:
        with target.devices() as devices, Journal(file) as journal:
            replayer = Replayer(devices, settings)
            what = f"{file.name} on {target}"
            with bar(environment, what, journal.size) as journal.moved:
                for result in replayer.run(journal):
                    tally.add(result)
            _check_any(journal, tally)
            from_model = settings.model is not None
            _report_gaps(
                replayer, journal, tally, len(devices), from_model, environment
            )
    except GgrpcError as error:
        environment.fail(error, _failure(target, error, tally))
        code = code_of(error)
    rows = [
        *_graph_rows(str(target), tally),
        *_tensor_rows(str(target), tally, settings.tolerance),
    ]
    verdict = _verdict(str(target), tally, rows, code)
    if any(row["result"] == "differs" for row in rows):
        code = ExitCode.CHECK_FAILED
    return rows, verdict, code


def _check_any(journal: Journal, tally: Tally) -> None:
    """Check that something was replayed.

    Raises:
        RecordingError: the recording has nothing to replay.
    """
    if tally.graphs or tally.tensors:
        return
    what = "is truncated before its first graph" if journal.cut else "has no graph"
    raise RecordingError(
        f"{journal.path} {what}: nothing was replayed; start 'ggrpc record' before the "
        "client, and let the client compute"
    )


def _failure(target: _Target, error: GgrpcError, tally: Tally) -> str:
    """The error message, with the target and the progress before it."""
    named = error.endpoint is not None or isinstance(error, RecordingError)
    text = str(error) if named else f"{target}: {error}"
    if not tally.graphs:
        return text
    return (
        f"{text}; {len(tally.graphs)} graphs were run and {tally.compared} results "
        "compared before"
    )


def _report_gaps(
    replayer: Replayer,
    journal: Journal,
    tally: Tally,
    devices: int,
    from_model: bool,
    environment: Environment,
) -> None:
    weights = replayer.weights
    if weights.random:
        environment.warn(
            f"{weights.random} tensors are missing from the recording and were "
            "replaced with random data, so results differ: use --model to read them "
            "from a GGUF"
        )
    if weights.model:
        environment.note(f"{weights.model} tensors came from the model")
    wanted = 1 + max((graph.device for graph in tally.graphs), default=0)
    if wanted > devices:
        environment.warn(
            f"the recording uses {wanted} devices, the target has {devices}: its "
            "first device ran the graphs of the missing ones"
        )
    for drop in replayer.dropped:
        how = "after" if drop.answered else "instead of answering"
        environment.warn(
            f"the recorded server closed a connection {how} {drop.command}, after "
            f"graph {drop.graph}"
        )
    if not tally.tensors:
        environment.warn("nothing was compared: the recorded client read no result")
    if from_model and not weights.model:
        environment.warn(
            "no tensor came from --model: the recording has all weights, or the model "
            "has no tensor of the same name, size and hash"
        )
    if journal.cut:
        environment.warn(f"{journal.path} is truncated: its complete part was replayed")


def _graph_rows(target: str, tally: Tally) -> Iterator[Row]:
    """One row for the graphs of each size, in order of first appearance."""
    for nodes in dict.fromkeys(graph.nodes for graph in tally.graphs):
        alike = [graph for graph in tally.graphs if graph.nodes == nodes]
        times = sorted(1e3 * s for graph in alike for s in graph.seconds)
        recorded = [g.recorded for g in alike if g.recorded is not None]
        yield {
            **_row(target, "graph", f"{nodes} nodes", len(alike)),
            "recorded_ms": 1e3 * statistics.median(recorded) if recorded else None,
            "min_ms": times[0],
            "median_ms": statistics.median(times),
            "p99_ms": times[math.ceil(0.99 * len(times)) - 1],
        }


def _tensor_rows(target: str, tally: Tally, tolerance: float) -> Iterator[Row]:
    """One row for each tensor that was read, with its worst comparison."""
    for name, worst in tally.tensors.items():
        compared = worst.compared
        nmse, largest, first = compared.difference
        differs = nmse > tolerance
        yield {
            **_row(target, "tensor", name, worst.count),
            "nmse": nmse,
            "largest": largest,
            "first": f"graph {compared.graph}, element {first}"
            if differs and first is not None
            else None,
            "result": "differs" if differs else "same",
        }


def _verdict(target: str, tally: Tally, rows: list[Row], code: ExitCode) -> Row:
    """The last line of a target."""
    results = {row["result"] for row in rows}
    errors = [row["nmse"] for row in rows if row["nmse"] is not None]
    if code is not ExitCode.OK:
        result = "failed"
    elif not tally.tensors:
        result = "not compared"
    else:
        result = "differs" if "differs" in results else "same"
    done = f"{len(tally.graphs)} graphs, {tally.compared} results"
    return {
        **_row(target, "all", done, None),
        "nmse": max(errors, default=None),
        "result": result,
    }


def _row(target: str, kind: str, name: str, count: int | None) -> dict[str, Any]:
    empty = dict.fromkeys(column.key for column in COLUMNS)
    return {**empty, "target": target, "kind": kind, "name": name, "count": count}
