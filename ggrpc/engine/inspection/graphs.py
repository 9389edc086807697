"""Reads the graphs of a recording, estimates their costs, and compares them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, cast

from ggrpc.bounds import Region
from ggrpc.engine.recording.chunk_file import ChunkWriter
from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.framing import ConnectionTap
from ggrpc.engine.recording.journal import Closed, Journal, JournalWriter
from ggrpc.engine.recording.weight_recording import WeightRecording
from ggrpc.engine.server.graph_reader import GraphReader
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.errors import RecordingError
from ggrpc.graph import Graph
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import Node, contract_of
from ggrpc.tensor import Tensor

# Suffixes of the files with the bytes that each side of a captured session sent.
CLIENT, SERVER = ".c2s.bin", ".s2c.bin"


class Cost(NamedTuple):
    """The cost of one node or several.

    Attributes:
        flops: the number of floating-point operations; see `Contract.flops`.
        bytes: the bytes read from sources and written to results.
    """

    flops: int
    bytes: int

    def __add__(self, other: object) -> Cost:
        assert isinstance(other, Cost)
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    @property
    def intensity(self) -> float | None:
        """Operations per byte; None if no bytes are read or written."""
        return self.flops / self.bytes if self.bytes else None


def cost_of(nodes: Sequence[Node]) -> Cost:
    """The total cost of some nodes; views cost nothing."""
    computed = [node for node in nodes if contract_of(node.tensor.op).computes]
    flops = sum(contract_of(node.tensor.op).flops(node) for node in computed)
    return Cost(flops, sum(map(_bytes, computed)))


def _bytes(node: Node) -> int:
    """The bytes that a node reads and writes; of selected rows, only these count."""
    sources = list(node.reads)
    read = sum(map(_element_bytes, sources))
    written = _element_bytes(node.tensor)
    if node.tensor.op is Op.GET_ROWS:
        rows = node.source(1).nelements
        row = sources[0].type.row_size(sources[0].ne[0])
        read = rows * row + _element_bytes(sources[1])
    elif node.tensor.op is Op.SET_ROWS:
        rows = sources[0].nrows
        written = rows * node.tensor.type.row_size(node.tensor.ne[0])
    elif node.tensor.op is Op.MUL_MAT_ID:
        expert = sources[0].nbytes // max(1, sources[0].ne[2])
        used = min(sources[0].ne[2], node.source(2).nelements)
        read = expert * used + _element_bytes(sources[1]) + _element_bytes(sources[2])
    return read + written


def _element_bytes(tensor: Tensor) -> int:
    """The size of the elements, without the gaps between them."""
    return tensor.packed_bytes


def name_of_op(node: Node) -> str:
    """The name of the op, with its function if it has several: `GLU SWIGLU`."""
    op = node.tensor.op
    kinds = {Op.UNARY: UnaryOp, Op.GLU: GluOp}
    if op in kinds and node.params.op in (*kinds[op],):
        return f"{op.name} {kinds[op](node.params.op).name}"
    return op.name


@dataclass
class SentGraph:
    """A graph that a client sent, once or several times.

    Attributes:
        number: the number of the graph, from 1, in the order of first use.
        connection: the number of the connection.
        device: the number of the device.
        runs: how often the graph was computed.
        read: reads the graph from the file. The result is not kept, because a long
            recording can have more graphs than fit in memory.
    """

    number: int
    connection: int
    device: int
    runs: int
    read: Callable[[], Graph]


class SentGraphs(list[SentGraph]):
    """The graphs of a file.

    Attributes:
        is_cut: whether the file ends inside a message, which is then left out.
    """

    is_cut = False


@contextmanager
def graphs_in(path: Path) -> Iterator[SentGraphs]:
    """The graphs of a recording or of captured sessions; the context keeps it open.

    Args:
        path: a recording; or `NAME.c2s.bin` with the bytes that a client sent, next to
            `NAME.s2c.bin` with the bytes that the server sent; or a folder of such
            pairs.

    Raises:
        RecordingError: the file has another format, is damaged or cannot be read.
    """
    clients = [path] if path.name.endswith(CLIENT) else sorted(path.glob(f"*{CLIENT}"))
    with ExitStack() as stack:
        if clients:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(folder) / "trace"
            _convert(clients, path)
        journal = stack.enter_context(Journal(path))
        journal.verify()  # including weights, which are not read otherwise
        yield _graphs(journal)


def _graphs(journal: Journal) -> SentGraphs:
    found: dict[tuple[int, int, bytes], SentGraph] = {}
    # By connection, device and uid.
    kept: dict[tuple[int, int, int | None], SentGraph] = {}
    readers: dict[int, _ConnectionReader] = {}
    for exchange in exchanges(journal):
        if isinstance(exchange, Closed):
            continue
        connection = exchange.connection
        if connection not in readers:
            readers[connection] = _ConnectionReader(exchange.dialect.tables)
        reader = readers[connection]
        reader.note_buffer(exchange)
        if exchange.message.command == Command.GRAPH_COMPUTE:
            request = cast(m.GraphCompute, exchange.request)
            key = connection, request.device, sha256(request.graph).digest()
            if key not in found:
                read = reader.reader_of(exchange)
                number = len(found) + 1
                found[key] = SentGraph(number, connection, request.device, 0, read)
            kept[connection, request.device, request.uid] = found[key]
            found[key].runs += 1
        elif exchange.message.command == Command.GRAPH_RECOMPUTE:
            again = cast(m.GraphRecompute, exchange.request)
            recomputed = kept.get((connection, again.device, again.uid))
            if recomputed:
                recomputed.runs += 1
    graphs = SentGraphs(found.values())
    graphs.is_cut = journal.cut
    return graphs


class _ConnectionReader:
    """Reads the graphs of one connection, for which it keeps track of its buffers.

    Args:
        tables: the op tables that the client may use.
    """

    def __init__(self, tables: Sequence[OpTable]) -> None:
        self._reader = GraphReader(tables)
        self._regions: dict[int, Region] = {}
        self._copy: Mapping[int, Region] | None = None  # of `_regions`, for graphs

    def note_buffer(self, exchange: Exchange) -> None:
        """Record the address and size of a buffer, if the exchange has them."""
        command, reply = exchange.message.command, exchange.reply
        if command == Command.ALLOC_BUFFER and reply:
            region = Region(reply.remote_ptr, reply.remote_size)
            self._regions[reply.remote_ptr], self._copy = region, None
        elif command == Command.BUFFER_GET_BASE and reply:
            handle = cast(m.BufferGetBase, exchange.request).remote_ptr
            size = self._regions[handle].size if handle in self._regions else 0
            region = Region(reply.base_ptr, size)
            self._regions[handle], self._copy = region, None

    def reader_of(self, exchange: Exchange) -> Callable[[], Graph]:
        """A function that reads a graph, with the buffers as they are now."""
        if self._copy is None:
            self._copy = dict(self._regions)
        regions = self._copy

        def read() -> Graph:
            # Decode a copy, because an exchange keeps its decoded request in memory.
            request = replace(exchange).request
            return self._reader.read(cast(m.GraphCompute, request).graph, regions)

        return read


def _convert(clients: Sequence[Path], to: Path) -> None:
    """Write captured sessions as a recording."""
    with closing(ChunkWriter(to)) as chunks:
        journal = JournalWriter(chunks)
        for connection, client in enumerate(clients, 1):
            server = client.with_name(client.name.replace(CLIENT, SERVER))
            try:
                requests, replies = client.read_bytes(), server.read_bytes()
            except OSError as error:
                raise RecordingError(
                    f"cannot read {error.filename}: {error.strerror}"
                ) from error
            journal.opened(connection, client.name, server.name)
            tap = ConnectionTap(
                journal,
                connection,
                WeightRecording.FULL,
                computed=lambda: None,
                greeted=lambda identity: None,
            )
            tap.requests.feed(memoryview(requests))
            tap.replies.feed(memoryview(replies))


class Change(NamedTuple):
    """A difference between two graphs.

    Attributes:
        node: the position of the node, from 1.
        what: the property that differs, one of `PROPERTIES`; `node` if one graph lacks
            the node.
        first: the value in the first graph.
        second: the value in the second graph.
    """

    node: int
    what: str
    first: str
    second: str


def differences(first: Graph, second: Graph) -> Iterator[Change]:
    """The differences between two graphs, node by node.

    Addresses, and endpoints in the names of tensors, are not compared.
    """
    labels = _labels(first), _labels(second)
    for at in range(max(len(first.nodes), len(second.nodes))):
        pair = [g.nodes[at] if at < len(g.nodes) else None for g in (first, second)]
        one, other = pair
        if one is None or other is None:
            shown = [name_of_op(node) if node else "-" for node in pair]
            yield Change(at + 1, "node", *shown)
            continue
        for what, left, right in zip(
            PROPERTIES,
            _properties(one, labels[0]),
            _properties(other, labels[1]),
            strict=True,
        ):
            if left != right:
                yield Change(at + 1, what, left, right)


# The endpoint in llama.cpp's names of copies: `RPC0[127.0.0.1:50052]#inp_pos#0`.
ENDPOINT = re.compile(r"(?<=RPC\d)\[[^]]*\](?=#)")

PROPERTIES = ("op", "name", "type", "ne", "sources", "parameters")


def _properties(node: Node, labels: dict[int, str]) -> tuple[str, ...]:
    tensor = node.tensor
    sources = ", ".join(
        labels.get(source.id) or ENDPOINT.sub("", source.name)
        for source in filter(None, node.src)
    )
    fields = node.params._asdict() if node.params else {}
    params = ", ".join(f"{name} {value}" for name, value in fields.items())
    return (
        name_of_op(node),
        ENDPOINT.sub("", tensor.name),
        tensor.type.name,
        "x".join(map(str, tensor.ne)),
        sources,
        params,
    )


def _labels(graph: Graph) -> dict[int, str]:
    """The label of each node's result by id: its position, because names may differ."""
    return {node.tensor.id: f"#{at}" for at, node in enumerate(graph.nodes, 1)}
