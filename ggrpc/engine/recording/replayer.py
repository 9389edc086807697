"""Does again what a recording says, on any devices, and compares what comes out.

Buffers are made anew and addresses translated, so that neither version nor make of the
server that was recorded matters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ggrpc.devices.device import Buffer, Device
from ggrpc.engine.recording.comparison import compare
from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.journal import Closed, Journal
from ggrpc.engine.recording.results import Compared, Computed, Dropped, Filled
from ggrpc.engine.recording.sessions import ReplaySession, write
from ggrpc.engine.recording.snapshot import RepeatableProgram
from ggrpc.engine.recording.substitute_weights import GgufWeights, random_weights
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command, name_of
from ggrpc.errors import RecordingError
from ggrpc.tensor import Tensor


@dataclass(frozen=True)
class ReplaySettings:
    """How to replay.

    Attributes:
        tolerance: the largest nmse that counts as the same.
        repeat: how often each graph is run, each time on the same inputs.
        model: where weights come from that the recording lacks.
    """

    tolerance: float = 1e-3
    repeat: int = 1
    model: GgufWeights | None = None


class Replayer:
    """Runs one recording on some devices.

    Args:
        devices: the targets; one that the recording calls by a higher number is the
            first.
        settings: how.

    Attributes:
        filled: where weights came from, so far.
        dropped: the connections that the recorded server closed, so far.
    """

    def __init__(self, devices: Sequence[Device], settings: ReplaySettings) -> None:
        self._devices = devices
        self._settings = settings
        self._sessions: dict[int, ReplaySession] = {}
        self._graph = 0
        self._told: dict[int, tuple[Computed, int]] = {}  # graphs without an answer
        self._asked: dict[int, Exchange] = {}  # the last of each connection
        self.filled = Filled()
        self.dropped: list[Dropped] = []

    def run(self, journal: Journal) -> Iterator[Computed | Compared]:
        """Do it all, and say what came out as it goes.

        Raises:
            RecordingError: the file is damaged.
            GgrpcError: the target cannot do it.
        """
        try:
            for event in exchanges(journal):
                if isinstance(event, Closed):
                    self._close(event)
                else:
                    result = self._act(event)
                    if result is not None:
                        yield result
        finally:
            for session in self._sessions.values():
                session.free()

    def _act(self, exchange: Exchange) -> Computed | Compared | None:
        connection = exchange.connection
        self._asked[connection] = exchange
        if exchange.answer and connection in self._told:
            computed, began = self._told.pop(connection)
            computed.recorded = (exchange.answer.time - began) / 1e9
        command = exchange.message.command
        act = _ACTS.get(command)
        if act is None or not (exchange.answered or command in _RUN):
            return None
        if connection not in self._sessions:
            self._sessions[connection] = ReplaySession(exchange.dialect)
        return act(self, self._sessions[connection], exchange, exchange.request)

    def _close(self, closed: Closed) -> None:
        session = self._sessions.pop(closed.connection, None)
        if session is not None:
            session.free()
        self._told.pop(closed.connection, None)
        last = self._asked.pop(closed.connection, None)
        if closed.by_server and last is not None:
            name = name_of(last.message.command)
            self.dropped.append(Dropped(self._graph, name, last.answered))

    def _device(self, number: int) -> Device:
        return self._devices[number if number < len(self._devices) else 0]

    def _alloc(self, session: ReplaySession, exchange: Exchange, request: Any) -> None:
        reply: m.Allocated = exchange.reply
        if reply.remote_ptr:
            device = self._device(request.device)
            session.allocate(device, reply.remote_ptr, reply.remote_size)

    def _base(self, session: ReplaySession, exchange: Exchange, request: Any) -> None:
        session.based(request.remote_ptr, exchange.reply.base_ptr)

    def _release(
        self, session: ReplaySession, exchange: Exchange, request: Any
    ) -> None:
        session.release(request.remote_ptr)

    def _clear(self, session: ReplaySession, exchange: Exchange, request: Any) -> None:
        buffer = session.buffer(request.remote_ptr)
        buffer.fill(0, buffer.size, request.value)

    def _set(self, session: ReplaySession, exchange: Exchange, request: Any) -> None:
        message = exchange.message
        layout = exchange.dialect.requests[request.command]
        size = message.size - layout.size
        buffer, at = session.place(request.tensor, request.offset, size)
        if message.omitted is None:
            self.filled.recorded += 1
            write(buffer, at, message.tail(layout.size))
        else:
            hash = message.omitted.hash
            self._fill(buffer, at, request.tensor, request.offset, size, hash)

    def _set_hash(
        self, session: ReplaySession, exchange: Exchange, request: Any
    ) -> None:
        if exchange.reply.result:  # the server had the bytes, nobody saw them
            size = request.tensor.nbytes - request.offset
            buffer, at = session.place(request.tensor, request.offset, size)
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
            write(buffer, at, iter([random_weights(tensor, size)]))
        else:
            self.filled.model += 1
            write(buffer, at, iter([found]))

    def _memset(self, session: ReplaySession, exchange: Exchange, request: Any) -> None:
        size = request.size
        buffer, at = session.place(request.tensor, request.offset, size)
        buffer.fill(at, size, request.value)

    def _copy(self, session: ReplaySession, exchange: Exchange, request: Any) -> None:
        size = request.src.nbytes
        source, start = session.place(request.src, 0, size)
        target, at = session.place(request.dst, 0, size)
        target.copy(at, source, start, size)

    def _get(
        self, session: ReplaySession, exchange: Exchange, request: Any
    ) -> Compared:
        buffer, at = session.place(request.tensor, request.offset, request.size)
        with buffer.read(at, request.size) as view:
            ours = bytes(view)
        assert exchange.answer is not None
        theirs = exchange.answer.payload()
        if len(theirs) != len(ours):
            raise RecordingError(
                f"{request.tensor}: {len(ours)} bytes were asked for, and "
                f"{len(theirs)} are in the recording"
            )
        tensor = session.named(request.tensor, request.size)
        difference = compare(tensor, ours, theirs, self._settings.tolerance)
        return Compared(self._graph, tensor, request.offset, request.size, difference)

    def _compute(
        self, session: ReplaySession, exchange: Exchange, request: Any
    ) -> Computed:
        device = self._device(request.device)
        program = session.program(device, request.device, request.graph)
        return self._run(program, request.device, exchange)

    def _recompute(
        self, session: ReplaySession, exchange: Exchange, request: Any
    ) -> Computed:
        program = session.last(self._device(request.device), request.device)
        return self._run(program, request.device, exchange)

    def _run(
        self, program: RepeatableProgram, number: int, exchange: Exchange
    ) -> Computed:
        self._graph += 1
        repeats = self._settings.repeat - 1
        restore = program.snapshot() if repeats else lambda: None
        seconds = [self._timed(program, number)]
        for _ in range(repeats):
            restore()
            seconds.append(self._timed(program, number))
        nodes = len(program.graph.node_ids)
        computed = Computed(self._graph, number, nodes, exchange.seconds, seconds)
        if computed.recorded is None:
            self._told[exchange.connection] = computed, exchange.message.time
        return computed

    def _timed(self, program: RepeatableProgram, number: int) -> float:
        start = time.perf_counter()
        program.run()
        self._device(number).synchronize()
        return time.perf_counter() - start


_RUN = Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE  # even if never answered

Act = Callable[[Replayer, ReplaySession, Exchange, Any], "Computed | Compared | None"]

_ACTS: Mapping[int, Act] = {
    Command.ALLOC_BUFFER: Replayer._alloc,
    Command.BUFFER_GET_BASE: Replayer._base,
    Command.FREE_BUFFER: Replayer._release,
    Command.BUFFER_CLEAR: Replayer._clear,
    Command.SET_TENSOR: Replayer._set,
    Command.SET_TENSOR_HASH: Replayer._set_hash,
    Command.MEMSET_TENSOR: Replayer._memset,
    Command.COPY_TENSOR: Replayer._copy,
    Command.GET_TENSOR: Replayer._get,
    Command.GRAPH_COMPUTE: Replayer._compute,
    Command.GRAPH_RECOMPUTE: Replayer._recompute,
}
