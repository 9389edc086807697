"""Repeats the requests of a recording on any devices, and compares the results.

Each connection becomes a `ReplaySession`. Devices receive decoded graphs, so the
protocol version of the recorded server does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from ggrpc.devices.device import Device
from ggrpc.engine.recording.chunk_file import damaged
from ggrpc.engine.recording.comparison import compare
from ggrpc.engine.recording.exchanges import Exchange, exchanges
from ggrpc.engine.recording.journal import Closed, Journal
from ggrpc.engine.recording.replay_session import ReplaySession
from ggrpc.engine.recording.results import Compared, Computed, Dropped, WeightSources
from ggrpc.engine.recording.substitute_weights import GgufWeights, SubstituteWeights
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command

# Replayed even without a recorded reply: the graph may be what ended the connection.
_RUN = frozenset({Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE})
# The other commands only query the server.
_REPLAYED = _RUN | {
    Command.ALLOC_BUFFER,
    Command.BUFFER_GET_BASE,
    Command.FREE_BUFFER,
    Command.BUFFER_CLEAR,
    Command.SET_TENSOR,
    Command.SET_TENSOR_2D,
    Command.SET_TENSOR_HASH,
    Command.MEMSET_TENSOR,
    Command.COPY_TENSOR,
    Command.GET_TENSOR,
    Command.GET_TENSOR_2D,
    Command.COMM_ALLREDUCE,
}


@dataclass(frozen=True)
class ReplaySettings:
    """How to replay.

    Attributes:
        tolerance: the largest NMSE that counts as equal.
        repeat: how often to run each graph, each time on the same inputs.
        model: the file with the weights that the recording lacks; None makes them
            random.
    """

    tolerance: float = 1e-3
    repeat: int = 1
    model: GgufWeights | None = None


class Replayer:
    """Replays one recording.

    Args:
        devices: the target devices. The first one also stands in for a recorded device
            with a number that the target does not have.
        settings: how to replay.

    Attributes:
        dropped: the connections so far that the recorded server closed.
    """

    def __init__(self, devices: Sequence[Device], settings: ReplaySettings) -> None:
        self._devices = devices
        self._settings = settings
        self._weights = SubstituteWeights(settings.model)
        self._sessions: dict[int, ReplaySession] = {}
        self._graph = 0
        # By connection: the graph whose recorded time is not known yet, and the time of
        # its request.
        self._pending: dict[int, tuple[Computed, int]] = {}
        self._last: dict[int, Exchange] = {}  # of each connection
        self.dropped: list[Dropped] = []

    @property
    def weights(self) -> WeightSources:
        """The number of tensors so far from each source of weights."""
        return self._weights.counts

    def run(self, journal: Journal) -> Iterator[Computed | Compared]:
        """Replay all connections; yields each result as soon as it is known.

        Raises:
            RecordingError: the recording is damaged or incomplete.
            GgrpcError: a target device cannot do it.
        """
        try:
            for event in exchanges(journal):
                if isinstance(event, Closed):
                    self._close(event)
                else:
                    result = self._replay(event)
                    if result is not None:
                        yield result
        finally:
            for session in self._sessions.values():
                session.close()

    def _replay(self, exchange: Exchange) -> Computed | Compared | None:
        connection = exchange.connection
        self._last[connection] = exchange
        if exchange.answer and connection in self._pending:
            computed, began = self._pending.pop(connection)
            computed.recorded = (exchange.answer.time - began) / 1e9
        command = exchange.command
        if command not in _REPLAYED or not (exchange.answered or command in _RUN):
            return None
        session = self._session(exchange)
        if command in _RUN:
            self._graph += 1
        data = session.replay(exchange)
        if command in _RUN:
            return self._computed(session, exchange)
        return None if data is None else self._compared(session, exchange, data)

    def _session(self, exchange: Exchange) -> ReplaySession:
        connection = exchange.connection
        if connection not in self._sessions:
            self._sessions[connection] = ReplaySession(
                self._devices, exchange.dialect, self._weights, self._settings.repeat
            )
        return self._sessions[connection]

    def _close(self, closed: Closed) -> None:
        session = self._sessions.pop(closed.connection, None)
        if session is not None:
            session.close()
        self._pending.pop(closed.connection, None)
        last = self._last.pop(closed.connection, None)
        if closed.by_server and last is not None:
            self.dropped.append(Dropped(self._graph, last.name, last.answered))

    def _computed(self, session: ReplaySession, exchange: Exchange) -> Computed:
        number = cast(m.GraphCompute | m.GraphRecompute, exchange.request).device
        nodes = len(session.graph(number).node_ids)
        computed = Computed(
            self._graph, number, nodes, exchange.seconds, session.seconds
        )
        if computed.recorded is None:
            self._pending[exchange.connection] = computed, exchange.message.time
        return computed

    def _compared(
        self, session: ReplaySession, exchange: Exchange, data: bytes
    ) -> Compared:
        request = cast(m.GetTensor | m.GetTensor2D, exchange.request)
        assert exchange.answer is not None
        recorded = exchange.answer.payload()
        if len(recorded) != len(data):
            raise damaged(
                f"{request.tensor}: the client read {len(data)} bytes, and the "
                f"recording has {len(recorded)}"
            )
        tensor = session.named(request.tensor, len(data))
        difference = compare(tensor, data, recorded, self._settings.tolerance)
        return Compared(self._graph, tensor, request.offset, len(data), difference)
