"""Does again what a recording says, on any devices, and compares what comes out.

Buffers are made anew and addresses translated, so that neither version nor make of the
server that was recorded matters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from ggrpc.devices.device import Buffer, Device, Placed, Program, go_on
from ggrpc.engine.numbering import GraphReader
from ggrpc.engine.programs import ProgramCache
from ggrpc.engine.recording.comparison import Difference, compare
from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.filling import Model, noise
from ggrpc.engine.recording.journal import Journal
from ggrpc.engine.wire import messages as m
from ggrpc.errors import RecordingError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.ops import contract_of
from ggrpc.tensor import Tensor

AT_ONCE = 16 << 20  # bytes that are written to a target in one go


@dataclass
class Computed:
    """A graph that was run.

    Attributes:
        number: counted from 1 over the whole recording.
        device: the number that the client gave the device.
        nodes: how many it has.
        recorded: seconds until the recorded server answered it or, where the version
            has no such answer, the next question; None as long as that is unknown.
        seconds: what each run took here.
    """

    number: int
    device: int
    nodes: int
    recorded: float | None
    seconds: list[float]


@dataclass(frozen=True)
class Compared:
    """A tensor that the client read.

    Attributes:
        graph: the number of the last graph before.
        tensor: which.
        offset: the first byte that was read.
        size: how many bytes.
        difference: how what comes out here differs from what was recorded.
    """

    graph: int
    tensor: Tensor
    offset: int
    size: int
    difference: Difference


@dataclass
class Filled:
    """How the weights came about, by the number of tensors.

    Attributes:
        recorded: out of the recording.
        model: out of a GGUF.
        noise: made up.
    """

    recorded: int = 0
    model: int = 0
    noise: int = 0


class _Ready(Program):
    """A graph made ready.

    Args:
        program: computes it.
        graph: the graph.
        placed: the buffers that it uses.

    Attributes:
        nodes: how many it has.
    """

    def __init__(
        self, program: Program, graph: Graph, placed: Mapping[int, Placed]
    ) -> None:
        self.nodes = len(graph.node_ids)
        self._program = program
        self._inputs = [
            (placed[leaf.buffer], leaf.data, leaf.nbytes) for leaf in lost_inputs(graph)
        ]

    def run(self, pause: Callable[[], None] = go_on) -> None:
        self._program.run(pause)

    def inputs(self) -> Callable[[], None]:
        """Keep what a run overwrites of its own inputs; gives what puts it back."""
        kept = []
        for (base, buffer), data, size in self._inputs:
            with buffer.read(data - base, size) as view:
                kept.append((buffer, data - base, bytes(view)))

        def put_back() -> None:
            for buffer, at, data in kept:
                _write(buffer, at, iter([data]))

        return put_back


def lost_inputs(graph: Graph) -> Iterator[Tensor]:
    """The data whose memory the graph uses for something else, once it was read.

    A cache that the graph adds to is not among it.
    """
    nodes = [
        node.tensor for node in graph.nodes if contract_of(node.tensor.op).computes
    ]
    for leaf in graph.tensors.values():
        if leaf.op is Op.NONE and not leaf.view_src and leaf.buffer:
            if any(_overwrites(node, leaf) for node in nodes):
                yield leaf


def _overwrites(node: Tensor, leaf: Tensor) -> bool:
    return (
        node.buffer == leaf.buffer
        and node.view_src != leaf.id
        and node.data < leaf.data + leaf.nbytes
        and leaf.data < node.data + node.nbytes
    )


@dataclass
class _Session:
    """What one recorded connection has."""

    placed: dict[int, Placed] = field(default_factory=dict)
    devices: dict[int, Device] = field(default_factory=dict)  # by handle
    graphs: GraphReader | None = None
    programs: ProgramCache = field(default_factory=ProgramCache)
    last: dict[int, _Ready] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplaySettings:
    """How to replay.

    Attributes:
        tolerance: the largest nmse that counts as the same.
        repeat: how often each graph is run; more than once, nothing is compared, since
            a graph may change what it reads.
        model: where weights come from that the recording lacks.
    """

    tolerance: float = 1e-3
    repeat: int = 1
    model: Model | None = None


class Replayer:
    """Runs one recording on some devices.

    Args:
        devices: the targets; one that the recording calls by a higher number is the
            first.
        settings: how.

    Attributes:
        filled: where weights came from, so far.
        dropped: the request that the recorded server owed an answer when it closed.
    """

    def __init__(self, devices: Sequence[Device], settings: ReplaySettings) -> None:
        self._devices = devices
        self._settings = settings
        self._sessions: dict[int, _Session] = {}
        self._graph = 0
        self._told: dict[int, tuple[Computed, int]] = {}  # graphs without an answer
        self.filled = Filled()
        self.dropped: m.Request | None = None

    def run(self, journal: Journal) -> Iterator[Computed | Compared]:
        """Do it all, and say what came out as it goes.

        Raises:
            RecordingError: the file is damaged.
            GgrpcError: the target cannot do it.
        """
        try:
            for exchange in exchanges(journal):
                if not exchange.answered:
                    self.dropped = exchange.request
                    if not isinstance(exchange.request, m.GraphCompute):
                        continue
                if exchange.answer and exchange.connection in self._told:
                    computed, began = self._told.pop(exchange.connection)
                    computed.recorded = (exchange.answer.time - began) / 1e9
                session = self._sessions.setdefault(exchange.connection, _Session())
                act = _ACTS.get(type(exchange.request))
                if act is not None:
                    result = act(self, session, exchange, exchange.request)
                    if result is not None:
                        yield result
        finally:
            self._free()

    def _device(self, number: int) -> Device:
        return self._devices[number if number < len(self._devices) else 0]

    def _alloc(self, session: _Session, exchange: Exchange, request: Any) -> None:
        reply = exchange.reply
        assert isinstance(reply, m.Allocated)
        if not reply.remote_ptr:
            return
        device = self._device(request.device)
        buffer = device.allocate(reply.remote_size)
        session.placed[reply.remote_ptr] = Placed(reply.remote_ptr, buffer)
        session.devices[reply.remote_ptr] = device

    def _base(self, session: _Session, exchange: Exchange, request: Any) -> None:
        reply = exchange.reply
        assert isinstance(reply, m.Base)
        placed = self._placed(session, request.remote_ptr)
        session.placed[request.remote_ptr] = placed._replace(base=reply.base_ptr)

    def _release(self, session: _Session, exchange: Exchange, request: Any) -> None:
        placed = self._placed(session, request.remote_ptr)
        session.programs.clear()
        session.last.clear()
        del session.placed[request.remote_ptr], session.devices[request.remote_ptr]
        placed.buffer.free()

    def _clear(self, session: _Session, exchange: Exchange, request: Any) -> None:
        buffer = self._placed(session, request.remote_ptr).buffer
        buffer.fill(0, buffer.size, request.value)

    def _set(self, session: _Session, exchange: Exchange, request: Any) -> None:
        buffer, at = self._place(session, request.tensor, request.offset)
        layout = exchange.dialect.requests[request.command]
        message = exchange.message
        if message.omitted is None:
            self.filled.recorded += 1
            _write(buffer, at, message.tail(layout.size))
        else:
            self._fill(buffer, at, request.tensor, request.offset, *message.omitted)

    def _set_hash(self, session: _Session, exchange: Exchange, request: Any) -> None:
        reply = exchange.reply
        assert isinstance(reply, m.Result)
        if reply.result:  # the server had the bytes, nobody saw them
            buffer, at = self._place(session, request.tensor, request.offset)
            size = request.tensor.nbytes - request.offset
            self._fill(buffer, at, request.tensor, request.offset, size, request.hash)

    def _fill(
        self,
        buffer: Buffer,
        at: int,
        tensor: Tensor,
        offset: int,
        size: int,
        hash: int,
    ) -> None:
        model = self._settings.model
        found = model.bytes_of(tensor, offset, size, hash) if model else None
        if found is None:
            self.filled.noise += 1
            _write(buffer, at, iter([noise(tensor, size)]))
        else:
            self.filled.model += 1
            _write(buffer, at, iter([found]))

    def _memset(self, session: _Session, exchange: Exchange, request: Any) -> None:
        buffer, at = self._place(session, request.tensor, request.offset)
        buffer.fill(at, request.size, request.value)

    def _copy(self, session: _Session, exchange: Exchange, request: Any) -> None:
        source, start = self._place(session, request.src, 0)
        target, at = self._place(session, request.dst, 0)
        target.copy(at, source, start, request.src.nbytes)

    def _get(
        self, session: _Session, exchange: Exchange, request: Any
    ) -> Compared | None:
        if self._settings.repeat > 1 or exchange.answer is None:
            return None
        buffer, at = self._place(session, request.tensor, request.offset)
        with buffer.read(at, request.size) as view:
            ours = bytes(view)
        theirs = exchange.answer.payload()
        tolerance = self._settings.tolerance
        difference = compare(request.tensor, ours, theirs, tolerance)
        return Compared(
            self._graph, request.tensor, request.offset, request.size, difference
        )

    def _compute(self, session: _Session, exchange: Exchange, request: Any) -> Computed:
        device = self._device(request.device)
        if session.graphs is None:
            session.graphs = GraphReader(exchange.dialect.tables)
        placed = {
            handle: there
            for handle, there in session.placed.items()
            if session.devices[handle] is device
        }
        graphs = session.graphs

        def compile(device: Device, payload: bytes) -> Program:
            regions = {handle: there.region for handle, there in placed.items()}
            graph = graphs.read(payload, regions)
            return _Ready(device.compile(graph, placed), graph, placed)

        program = cast(_Ready, session.programs.get(device, request.graph, compile))
        session.last[request.device] = program
        return self._run(program, request.device, exchange)

    def _recompute(
        self, session: _Session, exchange: Exchange, request: Any
    ) -> Computed:
        if request.device not in session.last:
            raise RecordingError("the graph to compute again is not in the recording")
        return self._run(session.last[request.device], request.device, exchange)

    def _run(self, program: _Ready, device: int, exchange: Exchange) -> Computed:
        self._graph += 1
        repeats = self._settings.repeat - 1
        put_back = program.inputs() if repeats else lambda: None
        seconds = [self._timed(program, device)]
        for _ in range(repeats):
            put_back()
            seconds.append(self._timed(program, device))
        computed = Computed(
            self._graph, device, program.nodes, exchange.seconds, seconds
        )
        if computed.recorded is None:
            self._told[exchange.connection] = computed, exchange.message.time
        return computed

    def _timed(self, program: Program, device: int) -> float:
        start = time.perf_counter()
        program.run()
        self._device(device).synchronize()
        return time.perf_counter() - start

    def _placed(self, session: _Session, handle: int) -> Placed:
        placed = session.placed.get(handle)
        if placed is None:
            raise RecordingError(
                f"buffer {handle:#x} was not allocated in the recording; it must begin "
                "before the client does"
            )
        return placed

    def _place(
        self, session: _Session, tensor: Tensor, offset: int
    ) -> tuple[Buffer, int]:
        base, buffer = self._placed(session, tensor.buffer)
        return buffer, tensor.data - base + offset

    def _free(self) -> None:
        for session in self._sessions.values():
            session.programs.clear()
            for placed in session.placed.values():
                placed.buffer.free()
        self._sessions.clear()


def _write(buffer: Buffer, at: int, parts: Iterator[bytes | memoryview]) -> None:
    """Write pieces one after the other, in larger ones."""
    pieces: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        pieces.append(part)
        size += len(part)
        if size >= AT_ONCE:
            at, pieces, size = _flush(buffer, at, pieces, size), [], 0
    _flush(buffer, at, pieces, size)


def _flush(
    buffer: Buffer, at: int, pieces: Sequence[bytes | memoryview], size: int
) -> int:
    if size:
        with buffer.write(at, size) as view:
            start = 0
            for piece in pieces:
                view[start : start + len(piece)] = piece
                start += len(piece)
    return at + size


Act = Callable[[Replayer, _Session, Exchange, Any], "Computed | Compared | None"]

_ACTS: Mapping[type[m.Request], Act] = {
    m.AllocBuffer: Replayer._alloc,
    m.BufferGetBase: Replayer._base,
    m.FreeBuffer: Replayer._release,
    m.BufferClear: Replayer._clear,
    m.SetTensor: Replayer._set,
    m.SetTensorHash: Replayer._set_hash,
    m.MemsetTensor: Replayer._memset,
    m.CopyTensor: Replayer._copy,
    m.GetTensor: Replayer._get,
    m.GraphCompute: Replayer._compute,
    m.GraphRecompute: Replayer._recompute,
}
