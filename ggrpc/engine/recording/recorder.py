"""Records what passes between clients and a server, none of which knows of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock, Timer

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.proxy import Proxy
from ggrpc.engine.net.pump import Watch, pump
from ggrpc.engine.net.tls import connect_stream
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.recording.chunks import ChunkWriter
from ggrpc.engine.recording.framing import ConnectionTap, WeightRecording
from ggrpc.engine.recording.journal import JournalWriter
from ggrpc.errors import RecordingError

CONNECTING = 10.0  # seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecorderSettings:
    """What to record.

    Attributes:
        listen: where clients connect; port 0 takes a free one.
        server: where they are taken.
        path: the file.
        force: whether a file that is there may be replaced.
        weights: what is kept of those that clients set.
        graphs: stop recording after so many, None for no such limit.
        seconds: stop recording after so long, None for no such limit.
    """

    listen: Endpoint
    server: Endpoint
    path: Path
    force: bool = False
    weights: WeightRecording = WeightRecording.FULL
    graphs: int | None = None
    seconds: float | None = None


class Recorder:
    """Listens from construction on.

    Once a limit is reached it writes no more, and ends with the last connection.

    Args:
        settings: what to record.

    Attributes:
        graphs: how many were recorded.

    Raises:
        BindError: the address cannot be had.
        ConfigError: the file cannot be written.
    """

    def __init__(self, settings: RecorderSettings) -> None:
        self._settings = settings
        server = settings.server
        self._proxy = Proxy(
            settings.listen,
            server,
            lambda: connect_stream(server, Deadline(CONNECTING)),
            self._carry,
            self._ended,
        )
        try:
            self._chunks = ChunkWriter(settings.path, settings.force)
        except BaseException:
            self._proxy.close()
            raise
        self._journal = JournalWriter(self._chunks)
        self._numbers = count(1)
        self._lock = Lock()  # guards the file and the three below
        self._writes = True
        self._failed: RecordingError | None = None
        self.graphs = 0

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that it listens on."""
        return self._proxy.endpoints

    def run(self) -> None:
        """Pass on and record until `stop` is called, or a limit ends it.

        Raises:
            RecordingError: not all was recorded, because the file took no more.
        """
        timer = Timer(self._settings.seconds or 0, self._finish)
        timer.daemon = True
        if self._settings.seconds is not None:
            timer.start()
        try:
            self._proxy.run()
        finally:
            timer.cancel()
            self._finish()
        if self._failed:
            raise self._failed

    def stop(self) -> None:
        """Make `run` return; from any thread, or a signal's handler."""
        self._proxy.stop()

    def _carry(self, client: Stream, server: Stream) -> None:
        number = next(self._numbers)
        watcher = ConnectionTap(
            self._journal, number, self._settings.weights, self._computed
        )
        ended_by: list[bool] = []  # whether by the server, the first first

        def watch(feed: Watch, by_server: bool, data: memoryview) -> None:
            if not data:
                ended_by.append(by_server and not server.was_shut)
            self._write(feed, data)

        names = str(client.endpoint), str(server.endpoint)
        self._write(self._journal.opened, number, *names)
        try:
            pump(
                client,
                server,
                partial(watch, watcher.requests.feed, False),
                partial(watch, watcher.replies.feed, True),
            )
        finally:
            self._write(self._journal.closed, number, ended_by[:1] == [True])

    def _write(self, write: Callable[..., object], *arguments: object) -> None:
        """Write, as long as anything is recorded."""
        with self._lock:
            if not self._writes:
                return
            try:
                write(*arguments)
            except _Enough:
                self._end()
            except RecordingError as error:
                log.error("%s; what passes from now on is not recorded", error)
                self._failed = error
                self._end()

    def _computed(self) -> None:
        """A graph begins to pass by."""
        if self.graphs == self._settings.graphs:
            raise _Enough
        self.graphs += 1

    def _finish(self) -> None:
        with self._lock:
            self._end()
        self._ended()

    def _ended(self) -> None:
        """A connection, or the recording, is over: where all is, stop."""
        if not self._writes and not self._proxy.connections:
            self.stop()

    def _end(self) -> None:
        if not self._writes:
            return
        self._writes = False
        self._chunks.close()
        log.info("recorded %d graphs to %s", self.graphs, self._settings.path)


class _Enough(Exception):
    """As many graphs were recorded as were wanted."""
