"""`ggrpc replay`: run what was recorded again, elsewhere, and compare."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ggrpc.commands.endpoints import endpoints_of
from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.fleet import Protocol, Timeout
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.errors import ConfigError, GgrpcError

if TYPE_CHECKING:
    from ggrpc.devices.device import Device
    from ggrpc.engine.recording.replayer import Compared, Computed, ReplaySettings

EXAMPLES = (
    "ggrpc replay graph.bin localhost",
    "ggrpc replay graph.bin --device cpu --repeat 20",
    "ggrpc replay graph.bin node[01-04] --model llama.gguf --json",
)

File = Annotated[Path, typer.Argument(metavar="FILE", hidden=True)]
Targets = Annotated[
    list[str] | None, typer.Argument(metavar="ENDPOINT...", hidden=True)
]
DeviceNames = Annotated[
    str | None,
    typer.Option(
        *("-d", "--device"),
        metavar="NAME,...",
        help="Run on devices of this machine instead, as 'ggrpc devices' names them.",
    ),
]
Repeat = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Run each graph N times, for the timings; then nothing is compared, since "
        "a graph may change what it reads.",
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        metavar="NMSE",
        min=0,
        help="The largest normalised mean squared error that counts as the same.",
    ),
]
ModelFile = Annotated[
    Path | None,
    typer.Option(
        metavar="GGUF", help="Where weights come from that the recording lacks."
    ),
]
OpTableDate = Annotated[
    str | None,
    typer.Option(
        "--op-table",
        metavar="DATE",
        show_default="what its version says",
        help="The day of the server's op numbers, such as 2025-07-20.",
    ),
]

COLUMNS = (
    Column("target", "TARGET"),
    Column("kind", "KIND"),
    Column("name", "NAME"),
    Column("count", "COUNT", right=True),
    Column("recorded_ms", "RECORDED", "{:.3f}".format, right=True),
    Column("min_ms", "MIN ms", "{:.3f}".format, right=True),
    Column("median_ms", "MEDIAN ms", "{:.3f}".format, right=True),
    Column("p99_ms", "P99 ms", "{:.3f}".format, right=True),
    Column("nmse", "NMSE", "{:.1e}".format, right=True),
    Column("largest", "LARGEST", "{:.3g}".format, right=True),
    Column("first", "FIRST DIFFERENCE"),
    Column("result", "RESULT", styles={"differs": "red", "same": "green"}),
)


def replay(
    context: typer.Context,
    file: File,
    endpoints: Targets = None,
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

    FILE is what 'ggrpc record' wrote; ENDPOINTs are written as for 'ggrpc probe'. What
    the client did is done again on each of them, of any make and version: memory is
    taken anew, addresses and op numbers are translated. Each tensor that the client
    read is compared with what it got, and the time of each kind of graph is shown.

    Weights that the recording lacks come from --model, or are made up, which a note
    says. The exit code is 1 where a tensor differs.
    """
    environment = environment_of(context)
    from ggrpc.engine.recording.filling import Model
    from ggrpc.engine.recording.replayer import ReplaySettings

    settings = ReplaySettings(tolerance, repeat, Model(model) if model else None)
    opened: list[Any] = (
        [device]
        if device and not endpoints
        else list(endpoints_of(endpoints or [], environment))
    )
    if device and endpoints:
        raise ConfigError("name either --device or ENDPOINTs, not both")
    listing = Listing(COLUMNS, as_json, not no_headers)
    codes = []
    for at, target in enumerate(opened):
        rows: list[Row] = []
        try:
            with _opened(target, bool(device), timeout, protocol, op_table) as devices:
                codes.append(
                    _replay(file, str(target), devices, settings, environment, rows)
                )
        except GgrpcError as error:
            environment.fail(error, str(error))
            codes.append(code_of(error))
        listing._replace(headers=listing.headers and at == 0).show(environment, rows)
    if ExitCode.CHECK_FAILED in codes:
        return ExitCode.CHECK_FAILED
    return code_of_several(codes)


@contextmanager
def _opened(
    target: Any,
    local: bool,
    timeout: float,
    protocol: str | None,
    op_table: str | None,
) -> Iterator[Sequence[Device]]:
    """The devices of a target, for as long as they are wanted."""
    if local:
        from ggrpc.devices.catalogue import Choices, open_devices

        yield open_devices(target, Choices())
        return
    from ggrpc.engine.registry import connect

    with ExitStack() as stack:
        server = connect(target, timeout=timeout, protocol=protocol, op_table=op_table)
        yield stack.enter_context(server).devices


def _replay(
    file: Path,
    target: str,
    devices: Sequence[Device],
    settings: ReplaySettings,
    environment: Environment,
    rows: list[Row],
) -> ExitCode:
    """Replay on one target and add its rows, as far as it goes."""
    from ggrpc.engine.recording.journal import Journal
    from ggrpc.engine.recording.replayer import Computed, Replayer

    replayer = Replayer(devices, settings)
    computed: list[Computed] = []
    compared: list[Compared] = []
    try:
        with Journal(file) as journal:
            for result in replayer.run(journal):
                if isinstance(result, Computed):
                    computed.append(result)
                else:
                    compared.append(result)
            cut = journal.cut
    finally:
        rows += _graph_rows(target, computed)
        rows += _tensor_rows(target, compared, settings.tolerance)
    _say_more(replayer, file, cut, environment)
    return (
        ExitCode.CHECK_FAILED
        if any(row["result"] == "differs" for row in rows)
        else ExitCode.OK
    )


def _say_more(replayer: Any, file: Path, cut: bool, environment: Environment) -> None:
    filled = replayer.filled
    if filled.noise:
        environment.warn(
            f"{filled.noise} tensors are not in the recording, and were made up; "
            "--model takes them from a GGUF"
        )
    if filled.model:
        environment.note(f"{filled.model} tensors came from the model")
    if replayer.dropped is not None:
        environment.warn(
            f"the recorded server closed instead of answering "
            f"{replayer.dropped.command.name}"
        )
    if cut:
        environment.warn(f"{file} is cut short: what it holds was replayed")


def _graph_rows(target: str, computed: Sequence[Computed]) -> Iterator[Row]:
    """A row for the graphs of each size, in the order of their first appearance."""
    for nodes in dict.fromkeys(graph.nodes for graph in computed):
        alike = [graph for graph in computed if graph.nodes == nodes]
        times = sorted(1e3 * s for graph in alike for s in graph.seconds)
        recorded = [g.recorded for g in alike if g.recorded is not None]
        yield {
            **dict.fromkeys(column.key for column in COLUMNS),
            "target": target,
            "kind": "graph",
            "name": f"{nodes} nodes",
            "count": len(alike),
            "recorded_ms": 1e3 * statistics.median(recorded) if recorded else None,
            "min_ms": times[0],
            "median_ms": statistics.median(times),
            "p99_ms": times[int(0.99 * (len(times) - 1))],
        }


def _tensor_rows(
    target: str, compared: Sequence[Compared], tolerance: float
) -> Iterator[Row]:
    """A row for each tensor that was read: the worst of its comparisons."""
    for name in dict.fromkeys(one.tensor.name for one in compared):
        alike = [one for one in compared if one.tensor.name == name]
        worst = max(alike, key=lambda one: one.difference.nmse)
        differs = worst.difference.nmse > tolerance
        first = worst.difference.first
        yield {
            **dict.fromkeys(column.key for column in COLUMNS),
            "target": target,
            "kind": "tensor",
            "name": name,
            "count": len(alike),
            "nmse": worst.difference.nmse,
            "largest": worst.difference.largest,
            "first": f"graph {worst.graph}, element {first}"
            if differs and first is not None
            else None,
            "result": "differs" if differs else "same",
        }
