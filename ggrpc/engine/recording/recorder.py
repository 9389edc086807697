"""Records the traffic between clients and a server, as a transparent proxy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from ssl import SSLContext
from threading import Lock, Timer

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.proxy import OnEnd, Proxy
from ggrpc.engine.net.pump import pump
from ggrpc.engine.net.tls import connect_stream
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.recording.chunk_file import ChunkWriter
from ggrpc.engine.recording.framing import ConnectionTap
from ggrpc.engine.recording.journal import JournalWriter
from ggrpc.engine.recording.weight_recording import WeightRecording
from ggrpc.engine.wire.identity import Identity
from ggrpc.errors import (
    GgrpcError,
    RecordingError,
    TransportTimeout,
    VersionMismatch,
)

CONNECT_TIMEOUT = 10.0  # seconds
# Seconds without a client after which the recorder stops waiting for more graphs.
IDLE_TIMEOUT = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecorderSettings:
    """What to record, and where.

    Attributes:
        listen: the address that clients connect to; port 0 takes a free port.
        server: the server to forward to.
        path: the file to write.
        force: whether to replace an existing file.
        weights: how to record the weights that clients set.
        graphs: stop recording after this many graphs; None for no limit.
        seconds: stop recording after this time; None for no limit.
        tls: the certificates for the server; None connects without TLS.
    """

    listen: Endpoint
    server: Endpoint
    path: Path
    force: bool = False
    weights: WeightRecording = WeightRecording.FULL
    graphs: int | None = None
    seconds: float | None = None
    tls: SSLContext | None = None


class Recorder:
    """A recording proxy; it listens from construction on.

    When it reaches a limit, it stops recording, but forwards until the last connection
    ends. If the clients leave before the limit on graphs, it stops after
    `IDLE_TIMEOUT`, unless there is a limit of time.

    Args:
        settings: what to record, and where.

    Attributes:
        graphs: the number of graphs recorded.

    Raises:
        BindError: the address is not available.
        RecordingError: the file cannot be written.
    """

    def __init__(self, settings: RecorderSettings) -> None:
        self._settings = settings
        server = settings.server
        self._proxy = Proxy(
            settings.listen,
            server,
            lambda: connect_stream(server, Deadline(CONNECT_TIMEOUT), settings.tls),
            self._forward,
            self._ended,
        )
        try:
            self._chunks = ChunkWriter(settings.path, settings.force)
        except BaseException:
            self._proxy.close()
            raise
        self._journal = JournalWriter(self._chunks)
        self._numbers = count(1)
        self._idle = Timer(0, self._give_up)  # runs while there is no client
        self._lock = Lock()  # guards the file, and the four attributes below
        self._writes = True
        self._greeted = False  # whether the server has answered a client's HELLO
        self._failure: GgrpcError | None = None
        self.graphs = 0

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that the recorder listens on."""
        return self._proxy.endpoints

    def run(self) -> None:
        """Forward and record until `stop` is called or a limit is reached.

        Raises:
            RecordingError: writing the file failed; the recording is incomplete.
            VersionMismatch: the server is newer than ggrpc, or a fork's.
            TransportTimeout: the clients left before the limit on graphs.
        """
        timer = Timer(self._settings.seconds or 0, self._end_recording)
        timer.daemon = True
        if self._settings.seconds is not None:
            timer.start()
        try:
            self._proxy.run()
        finally:
            timer.cancel()
            self._idle.cancel()
            self._end_recording()
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """Make `run` return; safe in any thread and in a signal handler."""
        self._proxy.stop()

    def _forward(self, client: Stream, server: Stream, on_end: OnEnd) -> None:
        number = next(self._numbers)
        tap = ConnectionTap(
            self._journal,
            number,
            self._settings.weights,
            self._count_graph,
            self._check_version,
        )
        by_server = False

        def end(by_other: bool) -> None:
            nonlocal by_server
            by_server = by_other and not server.was_shut
            on_end(by_other)

        self._write(
            self._journal.opened, number, str(client.endpoint), str(server.endpoint)
        )
        try:
            pump(
                client,
                server,
                partial(self._write, tap.requests.feed),
                partial(self._write, tap.replies.feed),
                end,
            )
        finally:
            self._write(self._journal.closed, number, by_server)

    def _write(self, write: Callable[..., object], *arguments: object) -> None:
        """Call a function that writes to the journal, unless the recording is over."""
        with self._lock:
            if not self._writes:
                return
            try:
                write(*arguments)
            except _LimitReachedError:
                self._close_file()
            except RecordingError as error:
                log.error("%s; recording has stopped, forwarding continues", error)
                self._failure = error
                self._close_file()
            except VersionMismatch as error:
                self._failure = error
                self._close_file()
                self.stop()

    def _check_version(self, identity: Identity) -> None:
        """Refuse servers whose graphs ggrpc could not read or replay.

        Raises:
            VersionMismatch: the server is newer than ggrpc, or a fork's.
        """
        if identity.name:
            server = self._settings.server
            raise VersionMismatch(
                f"{server} {identity.refusal}", endpoint=str(server), command="HELLO"
            )
        self._greeted = True

    def _count_graph(self) -> None:
        """Count a graph.

        Raises:
            _LimitReachedError: the recording already has as many as the limit allows.
        """
        if self.graphs == self._settings.graphs:
            raise _LimitReachedError
        self.graphs += 1

    def _end_recording(self) -> None:
        with self._lock:
            self._close_file()
        self._stop_if_idle()

    def _ended(self) -> None:
        """End the recording, or start the idle timer, after the last connection."""
        if self._proxy.connections:
            return
        if self.graphs == self._settings.graphs:
            self._end_recording()
        elif self._waits_for_graphs:
            self._idle.cancel()
            self._idle = Timer(IDLE_TIMEOUT, self._give_up)
            self._idle.daemon = True
            self._idle.start()
        self._stop_if_idle()

    @property
    def _waits_for_graphs(self) -> bool:
        """Whether only more clients can end the recording, after one was there."""
        settings = self._settings
        return (
            settings.graphs is not None and settings.seconds is None and self._greeted
        )

    def _give_up(self) -> None:
        """End a recording that still waits for graphs, if no client is connected."""
        if not self._writes or self._proxy.connections:
            return
        self._failure = TransportTimeout(
            f"recorded {self.graphs} of {self._settings.graphs} graphs: the client "
            f"left, and no other one connected for {IDLE_TIMEOUT:g} s; read the "
            "client's log, or add --for SECONDS to wait longer"
        )
        self._end_recording()

    def _stop_if_idle(self) -> None:
        """Stop once the recording is over and no connection is left."""
        if not self._writes and not self._proxy.connections:
            self.stop()

    def _close_file(self) -> None:
        if not self._writes:
            return
        self._writes = False
        self._chunks.close()
        log.info("recorded %d graphs to %s", self.graphs, self._settings.path)


class _LimitReachedError(Exception):
    """The recording has as many graphs as the limit allows."""
