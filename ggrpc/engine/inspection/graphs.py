"""The graphs of a recording or of a captured session, and what each node costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ggrpc.bounds import Region
from ggrpc.engine.numbering import GraphReader
from ggrpc.engine.recording.chunks import ChunkWriter
from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.journal import Journal, JournalWriter
from ggrpc.engine.recording.splitter import Watcher, Weights
from ggrpc.engine.wire import messages as m
from ggrpc.errors import RecordingError
from ggrpc.graph import Graph
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import Node, contract_of
from ggrpc.tensor import Tensor

CLIENT, SERVER = ".c2s.bin", ".s2c.bin"  # what each side of a captured session sent


class Cost(NamedTuple):
    """What nodes cost, together.

    Attributes:
        flops: floating-point operations: see `Contract.flops`.
        bytes: read from the sources and written to the result.
    """

    flops: int
    bytes: int

    @property
    def intensity(self) -> float | None:
        """Operations for each byte; None where nothing is moved."""
        return self.flops / self.bytes if self.bytes else None


def cost_of(nodes: Sequence[Node]) -> Cost:
    """What some nodes cost; views cost nothing."""
    computed = [node for node in nodes if contract_of(node.tensor.op).computes]
    flops = sum(contract_of(node.tensor.op).flops(node) for node in computed)
    return Cost(flops, sum(map(_bytes, computed)))


def _bytes(node: Node) -> int:
    """What of the sources is read: of rows that are picked, no more than is picked."""
    sources = [tensor for tensor in node.src if tensor is not None]
    read = sum(_content(tensor) for tensor in sources)
    written = _content(node.tensor)
    if node.tensor.op is Op.GET_ROWS:
        rows = node.source(1).nelements
        read = rows * sources[0].type.row_size(sources[0].ne[0]) + _content(sources[1])
    elif node.tensor.op is Op.SET_ROWS:
        rows = node.source(0).nrows
        read = _content(sources[0]) + _content(sources[1])
        written = rows * node.tensor.type.row_size(node.tensor.ne[0])
    elif node.tensor.op is Op.MUL_MAT_ID:
        each = sources[0].nbytes // max(1, sources[0].ne[2])
        chosen = min(sources[0].ne[2], node.source(2).nelements)
        read = each * chosen + _content(sources[1]) + _content(sources[2])
    return read + written


def _content(tensor: Tensor) -> int:
    """Bytes of the elements, without the gaps between them."""
    return tensor.type.row_size(tensor.ne[0]) * tensor.nrows


def name_of_op(node: Node) -> str:
    """The op, and which function where it has several: `GLU SWIGLU`."""
    op = node.tensor.op
    kinds = {Op.UNARY: UnaryOp, Op.GLU: GluOp}
    if op in kinds and node.params.op in (*kinds[op],):
        return f"{op.name} {kinds[op](node.params.op).name}"
    return op.name


@dataclass
class Seen:
    """A graph that was sent.

    Attributes:
        number: counted from 1; the same graph sent again has the same number.
        connection: on which it came first.
        device: the number of the device that it was for.
        graph: the graph.
        runs: how often it was run.
    """

    number: int
    connection: int
    device: int
    graph: Graph
    runs: int


def graphs_in(path: Path) -> list[Seen]:
    """Every graph of a recording, or of a session captured as `NAME.c2s.bin`.

    Raises:
        RecordingError: it is neither, or damaged.
    """
    if path.name.endswith(CLIENT):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "trace"
            _convert(path, copy)
            return _graphs(copy)
    return _graphs(path)


def _graphs(path: Path) -> list[Seen]:
    found: dict[tuple[int, int, bytes], Seen] = {}
    last: dict[tuple[int, int], Seen] = {}
    talks: dict[int, _Talk] = {}
    with Journal(path) as journal:
        for exchange in exchanges(journal):
            request, connection = exchange.request, exchange.connection
            talk = talks.setdefault(connection, _Talk(exchange))
            talk.hear(exchange)
            if isinstance(request, m.GraphCompute):
                key = connection, request.device, request.graph
                seen = found.get(key)
                if seen is None:
                    graph = talk.read(request.graph)
                    number = len(found) + 1
                    seen = Seen(number, connection, request.device, graph, 0)
                    found[key] = seen
                seen.runs += 1
                last[connection, request.device] = seen
            elif isinstance(request, m.GraphRecompute):
                again = last.get((connection, request.device))
                if again:
                    again.runs += 1
    return list(found.values())


class _Talk:
    """What one must know of a connection to read its graphs: the buffers there are."""

    def __init__(self, exchange: Exchange) -> None:
        self._reader = GraphReader(exchange.dialect.tables)
        self._regions: dict[int, Region] = {}

    def hear(self, exchange: Exchange) -> None:
        request, reply = exchange.request, exchange.reply
        if isinstance(reply, m.Allocated):
            region = Region(reply.remote_ptr, reply.remote_size)
            self._regions[reply.remote_ptr] = region
        elif isinstance(request, m.BufferGetBase) and isinstance(reply, m.Base):
            region = self._regions.get(request.remote_ptr, Region(0, 0))
            self._regions[request.remote_ptr] = region._replace(base=reply.base_ptr)

    def read(self, payload: bytes) -> Graph:
        return self._reader.read(payload, self._regions)


def _convert(client: Path, to: Path) -> None:
    """Write a captured session as a recording."""
    server = client.with_name(client.name.replace(CLIENT, SERVER))
    try:
        asked, answered = client.read_bytes(), server.read_bytes()
    except OSError as error:
        raise RecordingError(
            f"cannot read {error.filename}: {error.strerror}"
        ) from error
    chunks = ChunkWriter(to)
    journal = JournalWriter(chunks)
    journal.opened(1, client.name, server.name)
    watcher = Watcher(journal, 1, Weights.FULL, lambda: None)
    watcher.requests.feed(memoryview(asked))
    watcher.replies.feed(memoryview(answered))
    chunks.close()


class Change(NamedTuple):
    """Where two graphs differ.

    Attributes:
        node: the number of the node, counted from 1.
        what: what differs: op, type, ne, sources, parameters, name, or that one has the
            node and the other has not.
        first: what the one has.
        second: what the other has.
    """

    node: int
    what: str
    first: str
    second: str


def differences(first: Graph, second: Graph) -> Iterator[Change]:
    """Where two graphs differ, node by node; addresses do not count."""
    places = _places(first), _places(second)
    for at in range(max(len(first.nodes), len(second.nodes))):
        pair = [g.nodes[at] if at < len(g.nodes) else None for g in (first, second)]
        one, other = pair
        if one is None or other is None:
            shown = [name_of_op(node) if node else "-" for node in pair]
            yield Change(at + 1, "node", *shown)
            continue
        for what, left, right in zip(
            FACTS, _facts(one, places[0]), _facts(other, places[1]), strict=True
        ):
            if left != right:
                yield Change(at + 1, what, left, right)


FACTS = ("op", "name", "type", "ne", "sources", "parameters")


def _facts(node: Node, places: dict[int, str]) -> tuple[str, ...]:
    tensor = node.tensor
    sources = ", ".join(
        places.get(source.id, source.name) for source in node.src if source
    )
    fields = node.params._asdict() if node.params else {}
    params = ", ".join(f"{name} {value}" for name, value in fields.items())
    return (
        name_of_op(node),
        tensor.name,
        tensor.type.name,
        "x".join(map(str, tensor.ne)),
        sources,
        params,
    )


def _places(graph: Graph) -> dict[int, str]:
    """What to call the result of each node, whatever its name: its number."""
    return {node.tensor.id: f"#{at}" for at, node in enumerate(graph.nodes, 1)}
