"""The graphs of a recording or of a captured session, and what each node costs."""

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
from ggrpc.engine.recording.chunks import ChunkWriter
from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.framing import ConnectionTap
from ggrpc.engine.recording.journal import Closed, Journal, JournalWriter
from ggrpc.engine.recording.weights import WeightRecording
from ggrpc.engine.server.graph_reader import GraphReader
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.errors import RecordingError
from ggrpc.graph import Graph
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import Node, contract_of
from ggrpc.tensor import Tensor

CLIENT, SERVER = ".c2s.bin", ".s2c.bin"  # what each side of a captured session sent
NOWHERE = Region(0, 0)


class Cost(NamedTuple):
    """What nodes cost, together.

    Attributes:
        flops: floating-point operations: see `Contract.flops`.
        bytes: read from the sources and written to the result.
    """

    flops: int
    bytes: int

    def __add__(self, other: object) -> Cost:
        assert isinstance(other, Cost)
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

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
    sources = list(node.reads)
    read = sum(map(_content, sources))
    written = _content(node.tensor)
    if node.tensor.op is Op.GET_ROWS:
        rows = node.source(1).nelements
        read = rows * sources[0].type.row_size(sources[0].ne[0]) + _content(sources[1])
    elif node.tensor.op is Op.SET_ROWS:
        rows = sources[0].nrows
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
        runs: how often it was run.
        read: reads it from the file, each time anew: a long recording may have more
            graphs than memory takes.
    """

    number: int
    connection: int
    device: int
    runs: int
    read: Callable[[], Graph]


@contextmanager
def graphs_in(path: Path) -> Iterator[list[Seen]]:
    """Every graph of a recording, or of captured sessions, as long as the file is open.

    Args:
        path: a recording; or `NAME.c2s.bin`, what a client sent, with what the server
            sent beside it as `NAME.s2c.bin`; or a folder of such.

    Raises:
        RecordingError: it is none of them, or damaged.
    """
    clients = [path] if path.name.endswith(CLIENT) else sorted(path.glob(f"*{CLIENT}"))
    with ExitStack() as stack:
        if clients:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(folder) / "trace"
            _convert(clients, path)
        yield _graphs(stack.enter_context(Journal(path)))


def _graphs(journal: Journal) -> list[Seen]:
    found: dict[tuple[int, int, bytes], Seen] = {}
    last: dict[tuple[int, int], Seen] = {}
    talks: dict[int, _Talk] = {}
    for exchange in exchanges(journal):
        if isinstance(exchange, Closed):
            continue
        connection = exchange.connection
        talk = talks.setdefault(connection, _Talk(exchange.dialect.tables))
        talk.hear(exchange)
        if exchange.message.command == Command.GRAPH_COMPUTE:
            request = cast(m.GraphCompute, exchange.request)
            key = connection, request.device, sha256(request.graph).digest()
            if key not in found:
                read = talk.reader(exchange)
                number = len(found) + 1
                found[key] = Seen(number, connection, request.device, 0, read)
            last[connection, request.device] = found[key]
            found[key].runs += 1
        elif exchange.message.command == Command.GRAPH_RECOMPUTE:
            device = cast(m.GraphRecompute, exchange.request).device
            if (connection, device) in last:
                last[connection, device].runs += 1
    return list(found.values())


class _Talk:
    """What one must know of a connection to read its graphs: the buffers there are.

    Args:
        tables: how the client may number ops.
    """

    def __init__(self, tables: Sequence[OpTable]) -> None:
        self._reader = GraphReader(tables)
        self._regions: Mapping[int, Region] = {}

    def hear(self, exchange: Exchange) -> None:
        """Take note of a buffer, and of where it is."""
        command, reply = exchange.message.command, exchange.reply
        if command == Command.ALLOC_BUFFER and reply:
            region = Region(reply.remote_ptr, reply.remote_size)
            self._regions = {**self._regions, reply.remote_ptr: region}
        elif command == Command.BUFFER_GET_BASE and reply:
            handle = cast(m.BufferGetBase, exchange.request).remote_ptr
            region = self._regions.get(handle, NOWHERE)._replace(base=reply.base_ptr)
            self._regions = {**self._regions, handle: region}

    def reader(self, exchange: Exchange) -> Callable[[], Graph]:
        """What reads a graph, as it is sent now, whenever it is called."""
        regions = self._regions

        def read() -> Graph:
            # Anew, since an exchange remembers what it once decoded.
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
                asked, answered = client.read_bytes(), server.read_bytes()
            except OSError as error:
                raise RecordingError(
                    f"cannot read {error.filename}: {error.strerror}"
                ) from error
            journal.opened(connection, client.name, server.name)
            watcher = ConnectionTap(
                journal, connection, WeightRecording.FULL, lambda: None
            )
            watcher.requests.feed(memoryview(asked))
            watcher.replies.feed(memoryview(answered))


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
    """Where two graphs differ, node by node; addresses and endpoints do not count."""
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


# What llama.cpp puts before the names of copies: `RPC0[127.0.0.1:50052]#inp_pos#0`.
ENDPOINT = re.compile(r"(?<=RPC\d)\[[^]]*\](?=#)")

FACTS = ("op", "name", "type", "ne", "sources", "parameters")


def _facts(node: Node, places: dict[int, str]) -> tuple[str, ...]:
    tensor = node.tensor
    sources = ", ".join(
        places.get(source.id) or ENDPOINT.sub("", source.name)
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


def _places(graph: Graph) -> dict[int, str]:
    """What to call the result of each node, whatever its name: its number."""
    return {node.tensor.id: f"#{at}" for at, node in enumerate(graph.nodes, 1)}
