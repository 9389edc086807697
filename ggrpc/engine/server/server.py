"""The server: listens, and gives each connection a thread and a session of its own.

A session's failure, whatever its kind, ends that session and nothing else.
"""

from __future__ import annotations

import logging
import time
from threading import Thread
from types import TracebackType

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.listener import Listener
from ggrpc.engine.net.tls import server_streams
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.connection_handler import ConnectionHandler
from ggrpc.engine.server.connections import ConnectionTable, OpenConnection
from ggrpc.engine.server.quotas import ServerQuota
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.errors import RefusedError

__all__ = ["Server", "ServerSettings"]

# Seconds for a session that was cut off to end: a node may have to be finished.
AFTER_GRACE = 5.0

log = logging.getLogger(__name__)


class Server:
    """A running server. Listens from construction on; a context manager.

    Raises:
        BindError: the address cannot be had.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._quotas = ServerQuota(settings.limits, settings.devices)
        self._connections = ConnectionTable(settings.limits)
        self._listener = Listener(
            settings.endpoint,
            server_streams(settings.tls),
            self._connections.evict_idle,
        )

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that it listens on."""
        return self._listener.endpoints

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._close()

    def run(self) -> None:
        """Accept clients until `stop` is called; then end their sessions."""
        self._listener.run(self._receive)
        self._close()

    def stop(self) -> None:
        """Make `run` return; from any thread, or a signal's handler."""
        self._listener.stop()

    @property
    def unfinished(self) -> int:
        """How many sessions have not ended, once `run` has returned."""
        return len(self._connections.all())

    def _receive(self, stream: Stream) -> None:
        if self._settings.allowed.admits(stream.endpoint.host):
            self._welcome(stream)
        else:
            stream.close()
            _tell(stream, "refused: its address is none that --allow names")

    def _welcome(self, stream: Stream) -> None:
        handler = ConnectionHandler(stream, self._settings, self._quotas.one())
        connection = OpenConnection(stream, handler)
        connection.thread = Thread(
            target=self._serve, args=(connection,), name=str(stream.endpoint)
        )
        try:
            evicted = self._connections.add(connection)
        except RefusedError as error:
            stream.close()
            _tell(stream, f"refused: {error}")
            return
        if evicted:
            _tell(evicted.stream, f"makes way for {stream.endpoint}, having no buffers")
        try:
            connection.thread.start()
        except RuntimeError as error:
            self._forget(connection)
            self._connections.evict_idle()  # for the next one
            _tell(stream, f"no thread to serve it: {error}")

    def _serve(self, connection: OpenConnection) -> None:
        try:
            connection.handler.run()
        finally:
            self._forget(connection)

    def _forget(self, connection: OpenConnection) -> None:
        connection.stream.close()
        self._connections.remove(connection)

    def _close(self) -> None:
        """Let no one in any more, and end the sessions that there are."""
        self._listener.close()
        for connection in self._connections.all():
            connection.stream.end_input()
        self._wait(self._settings.grace)
        if self.unfinished:
            log.warning("%d sessions are cut off (--grace)", self.unfinished)
            self._quotas.stop()
            for connection in self._connections.all():
                connection.stream.shut()
            self._wait(AFTER_GRACE)

    def _wait(self, seconds: float) -> None:
        """Wait for the sessions to end, at most so long."""
        end = time.monotonic() + seconds
        for connection in self._connections.all():
            connection.thread.join(max(0.0, end - time.monotonic()))


def _tell(stream: Stream, what: str) -> None:
    peer = str(stream.endpoint)
    log.warning("%s: %s", peer, what, extra={"peer": peer})
