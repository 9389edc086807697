"""`ggrpc inspect`: shows the contents of a recording, captured session or model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ggrpc.commands.environment import Environment, environment_of
from ggrpc.commands.exit_codes import ExitCode
from ggrpc.commands.listing import Column, Json, Listing, NoHeaders, Row
from ggrpc.commands.unused_options import refuse_unused
from ggrpc.engine.files.gguf import is_gguf, tensors_of
from ggrpc.engine.inspection import drawings
from ggrpc.engine.inspection.graphs import (
    Cost,
    SentGraph,
    SentGraphs,
    cost_of,
    differences,
    graphs_in,
    name_of_op,
)
from ggrpc.errors import ConfigError, RecordingError
from ggrpc.ops import Node
from ggrpc.tensor import Tensor
from ggrpc.units import format_size

EXAMPLES = (
    "ggrpc inspect graph.bin",
    "ggrpc inspect graph.bin --graph 2 --by op",
    "ggrpc inspect graph.bin --format mermaid",
    "ggrpc inspect model.gguf --by type",
    "ggrpc inspect before.bin --diff after.bin",
)


class By(str, Enum):
    """What a row shows."""

    graph = "graph"
    op = "op"
    node = "node"
    tensor = "tensor"
    type = "type"


class Format(str, Enum):
    """The output format of a graph."""

    table = "table"
    dot = "dot"
    mermaid = "mermaid"
    svg = "svg"


def _number(value: float) -> str:
    """A number with an SI prefix: 1.23 G."""
    for letter in ("", " k", " M", " G", " T"):
        if abs(value) < 1000:
            return f"{value:.3g}{letter}"
        value /= 1000
    return f"{value:.3g} P"


COSTS = (
    Column("flops", "FLOPS", _number, right=True),
    Column("bytes", "BYTES", format_size, right=True),
    Column("flops_per_byte", "FLOPS/BYTE", "{:.2f}".format, right=True),
)
SHAPE = Column("ne", "NE", lambda ne: "x".join(map(str, ne)))
COLUMNS: dict[By, tuple[Column, ...]] = {
    By.graph: (
        Column("graph", "GRAPH", right=True),
        Column("connection", "CONNECTION", right=True),
        Column("device", "DEVICE", right=True),
        Column("nodes", "NODES", right=True),
        Column("runs", "RUNS", right=True),
        *COSTS,
    ),
    By.op: (Column("op", "OP"), Column("nodes", "NODES", right=True), *COSTS),
    By.node: (
        Column("node", "NODE", right=True),
        Column("role", "ROLE"),
        Column("op", "OP"),
        Column("name", "NAME"),
        Column("type", "TYPE"),
        SHAPE,
        Column("sources", "SOURCES", wraps=True),
        *COSTS,
    ),
    By.tensor: (
        Column("name", "NAME"),
        Column("type", "TYPE"),
        SHAPE,
        Column("size_bytes", "SIZE", format_size, right=True),
        Column("at", "OFFSET", right=True),
    ),
    By.type: (
        Column("type", "TYPE"),
        Column("tensors", "TENSORS", right=True),
        Column("size_bytes", "SIZE", format_size, right=True),
    ),
}
CHANGES = (
    Column("graph", "GRAPH", right=True),
    Column("node", "NODE", right=True),
    Column("what", "WHAT"),
    Column("first", "FIRST", wraps=True),
    Column("second", "SECOND", wraps=True),
)

File = Annotated[Path, typer.Argument(metavar="FILE", hidden=True)]
Kind = Annotated[
    By | None,
    typer.Option(
        metavar="WHAT",
        show_default="graph, or tensor for a model",
        help="Rows to show: graph, op or node; tensor or type for a model.",
    ),
]
GraphNumber = Annotated[
    int | None,
    typer.Option(
        "--graph",
        metavar="N",
        min=1,
        show_default="all, or the largest to draw",
        help="Show only this graph.",
    ),
]
NodeName = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        help="Show only nodes with this name or number, their sources and readers.",
    ),
]
Shape = Annotated[
    Format,
    typer.Option(
        "--format", metavar="FORMAT", help="table, dot, mermaid or svg (by graphviz)."
    ),
]
Other = Annotated[
    Path | None,
    typer.Option(
        "--diff",
        metavar="FILE",
        help="Show how the graphs of another recording differ; the exit code is 1 if "
        "they do.",
    ),
]


def inspect(
    context: typer.Context,
    file: File,
    by: Kind = None,
    graph: GraphNumber = None,
    node: NodeName = None,
    format: Shape = Format.table,
    diff: Other = None,
    as_json: Json = False,
    no_headers: NoHeaders = False,
) -> ExitCode:
    """Show a recording, a captured session or a model.

    FILE is the output of 'ggrpc record', a session captured as NAME.c2s.bin and
    NAME.s2c.bin, or a GGUF. The output shows the types, shapes and sources of nodes,
    and their cost: floating-point operations (a multiply-add counts as two) and bytes
    read and written. Nothing is computed.
    """
    environment = environment_of(context)
    if is_gguf(file):
        refuse_unused(context, ("graph", "node", "format", "diff"), "on a GGUF")
        _show(environment, by or By.tensor, _of_model(file, by), as_json, no_headers)
        return ExitCode.OK
    if by in (By.tensor, By.type):
        raise ConfigError(f"{file} is not a GGUF: use --by graph, op or node")
    if diff is not None:
        refuse_unused(context, ("by", "node"), "with --diff")
    if node is not None and by not in (None, By.node):
        raise ConfigError(f"--node shows nodes: it has no rows by {by.value}")
    if format is not Format.table and (as_json or no_headers or by or node or diff):
        raise ConfigError(
            f"--format {format.value} draws one whole graph: combine it only with "
            "--graph"
        )
    with ExitStack() as stack:
        seen = _chosen(stack.enter_context(graphs_in(file)), graph, file, environment)
        if diff is not None:
            found = stack.enter_context(graphs_in(diff))
            others = _chosen(found, graph, diff, environment)
            rows = list(_changes(seen, others))
            Listing(CHANGES, as_json, not no_headers).show(environment, rows)
            return ExitCode.CHECK_FAILED if rows else ExitCode.OK
        if format is not Format.table:
            environment.write(_drawn(seen, format))
            return ExitCode.OK
        by = By.node if node is not None else by or By.graph
        _show(environment, by, _rows(seen, by, node), as_json, no_headers)
    return ExitCode.OK


def _show(
    environment: Environment,
    by: By,
    rows: Iterator[Row],
    as_json: bool,
    no_headers: bool,
) -> None:
    Listing(COLUMNS[by], as_json, not no_headers).show(environment, list(rows))


def _of_model(file: Path, by: By | None) -> Iterator[Row]:
    tensors = tensors_of(file)
    if by is By.type:
        for type in dict.fromkeys(tensor.type for tensor in tensors):
            alike = [tensor.size for tensor in tensors if tensor.type == type]
            yield {"type": type, "tensors": len(alike), "size_bytes": sum(alike)}
        return
    if by not in (None, By.tensor):
        raise ConfigError(f"{file} is a model: use --by tensor or type")
    for tensor in tensors:
        yield {
            "name": tensor.name,
            "type": tensor.type,
            "ne": list(tensor.ne),
            "at": tensor.offset,
            "size_bytes": tensor.size,
        }


def _chosen(
    seen: SentGraphs, number: int | None, file: Path, environment: Environment
) -> list[SentGraph]:
    if not seen:
        what = "is truncated before its first graph" if seen.is_cut else "has no graph"
        raise RecordingError(
            f"{file} {what}: start 'ggrpc record' before the client, and let the "
            "client compute"
        )
    if seen.is_cut:
        environment.warn(f"{file} is truncated: its complete part is shown")
    chosen = [one for one in seen if number in (None, one.number)]
    if not chosen:
        raise ConfigError(f"{file} has no graph {number}: it has {len(seen)}")
    return chosen


def _rows(seen: Sequence[SentGraph], by: By, name: str | None) -> Iterator[Row]:
    if by is By.graph:
        yield from map(_graph_row, seen)
    elif by is By.op:
        yield from _op_rows(seen)
    elif name is None:
        for one in seen:
            for at, node in enumerate(one.read().nodes, 1):
                yield _node_row(one, at, node)
    else:
        yield from _around(seen, name)


def _graph_row(one: SentGraph) -> Row:
    nodes = one.read().nodes
    return {
        "graph": one.number,
        "connection": one.connection,
        "device": one.device,
        "nodes": len(nodes),
        "runs": one.runs,
        **_costs(cost_of(nodes)),
    }


def _op_rows(seen: Sequence[SentGraph]) -> Iterator[Row]:
    """The totals of each op, the most expensive first, and the overall total."""
    nothing = Cost(0, 0)
    counts: Counter[str] = Counter()
    costs: dict[str, Cost] = {}
    for one in seen:
        for node in one.read().nodes:
            op = name_of_op(node)
            counts[op] += 1
            costs[op] = costs.get(op, nothing) + cost_of([node])
    for op in sorted(costs, key=costs.__getitem__, reverse=True):
        yield {"op": op, "nodes": counts[op], **_costs(costs[op])}
    total = sum(costs.values(), nothing)
    yield {"op": "all", "nodes": counts.total(), **_costs(total)}


def _around(seen: Sequence[SentGraph], name: str) -> Iterator[Row]:
    """The nodes with a name or number, and their sources and readers."""
    found = False
    for one in seen:
        nodes = one.read().nodes
        places = {node.tensor.id: at for at, node in enumerate(nodes, 1)}
        for at, node in enumerate(nodes, 1):
            if name not in (node.tensor.name, str(at)):
                continue
            found = True
            yield _node_row(one, at, node)
            for source in filter(None, node.src):
                place = places.get(source.id)
                if place is None:
                    yield _tensor_row(one, source)
                else:
                    yield {**_node_row(one, place, nodes[place - 1]), "role": "source"}
            for place, reader in enumerate(nodes, 1):
                if any(s and s.id == node.tensor.id for s in reader.src):
                    yield {**_node_row(one, place, reader), "role": "reader"}
    if not found:
        raise ConfigError(f"no node is named '{name}': --by node lists all nodes")


def _node_row(one: SentGraph, at: int, node: Node) -> Row:
    sources = [source.name or f"{source.id:#x}" for source in filter(None, node.src)]
    return {
        **_tensor_row(one, node.tensor),
        "node": at,
        "role": "node",
        "op": name_of_op(node),
        "sources": ", ".join(sources),
        **_costs(cost_of([node])),
    }


def _tensor_row(one: SentGraph, tensor: Tensor) -> Row:
    return {
        "graph": one.number,
        "node": None,
        "role": "source",
        "op": None,
        "name": tensor.name,
        "type": tensor.type.name,
        "ne": list(tensor.ne),
        "sources": None,
        "flops": None,
        "bytes": tensor.nbytes,
        "flops_per_byte": None,
    }


def _costs(cost: Cost) -> Row:
    return {
        "flops": cost.flops,
        "bytes": cost.bytes,
        "flops_per_byte": cost.intensity,
    }


def _drawn(seen: Sequence[SentGraph], format: Format) -> str:
    draw = {
        Format.dot: drawings.dot,
        Format.mermaid: drawings.mermaid,
        Format.svg: drawings.svg,
    }[format]
    graphs = (one.read() for one in seen)
    return draw(max(graphs, key=lambda graph: len(graph.nodes)))


def _changes(first: Sequence[SentGraph], second: Sequence[SentGraph]) -> Iterator[Row]:
    for one, other in zip(first, second, strict=False):
        for change in differences(one.read(), other.read()):
            yield {"graph": one.number, **change._asdict()}
    if len(first) != len(second):
        yield {
            "graph": None,
            "node": None,
            "what": "graphs",
            "first": str(len(first)),
            "second": str(len(second)),
        }
