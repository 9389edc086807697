"""The server: listens, and gives each client its own thread and session.

A client accepts the offered version by sending a second request. Only then its
connection gets a thread. Until then the thread that accepts connections serves it, so
that strangers cost little, and no more than their budget (see `pacing.py`).

A failure in a session ends that session and no other.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from threading import Thread

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.listener import Listener
from ggrpc.engine.net.tls import server_streams
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.connection_handler import ConnectionHandler, Step
from ggrpc.engine.server.connections import ConnectionTable, OpenConnection
from ggrpc.engine.server.pacing import Pacer, StrangerBudget
from ggrpc.engine.server.quotas import ServerQuota
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.errors import RefusedError
from ggrpc.log_topic import Topic

# How long a session that was cut off may take to end: it finishes a node first.
CUT_OFF_SECONDS = 5.0

log = logging.getLogger(__name__)


class Server:
    """A server; a context manager that stops it.

    It listens from construction on, and accepts clients in `run`.

    Args:
        settings: the server's settings.

    Attributes:
        settings: the server's settings; new ones apply to later connections.

    Raises:
        BindError: the address is not available.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._closed = False
        self._warm_up: Thread | None = None
        self._quotas = ServerQuota(settings.limits, settings.devices)
        self._connections = ConnectionTable(settings.limits)
        self._budget = StrangerBudget(lambda: self._quotas.computes)
        self._listener = Listener(
            settings.endpoint,
            server_streams(lambda: self.settings.tls),
            self._connections.evict_idle,
            Pacer(self._budget),
        )

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that the server is bound to."""
        return self._listener.endpoints

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._close()

    def run(self) -> None:
        """Accept clients until `stop` is called, then end their sessions."""
        if self.settings.warm_up:
            self._warm_up = Thread(target=self._prepare, name="warm-up")
            self._warm_up.start()
        self._listener.run(self._receive)
        self._close()

    def stop(self) -> None:
        """Make `run` return. Any thread and any signal handler may call this."""
        self._listener.stop()

    @property
    def unfinished(self) -> int:
        """The number of sessions that have not ended; 0 after an orderly `run`."""
        return len(self._connections.all())

    def _prepare(self) -> None:
        """Let the devices prepare for common models, as long as no client is there."""
        for device in self.settings.devices:
            try:
                device.warm_up(lambda: self._closed, self._has_sessions)
            except Exception as error:  # clients learn of it, where it concerns them
                log.warning("%s: the warm-up failed: %s", device.name, error)

    def _has_sessions(self) -> bool:
        return any(connection.thread for connection in self._connections.all())

    def _receive(self, stream: Stream) -> None:
        if self.settings.allowlist.allows(stream.endpoint.host):
            self._welcome(stream)
        else:
            stream.close()
            _warn(stream, "refused: --allow does not include its address")

    def _welcome(self, stream: Stream) -> None:
        handler = ConnectionHandler(stream, self.settings, self._quotas.new_client())
        connection = OpenConnection(stream, handler)
        try:
            evicted = self._connections.add(connection)
        except RefusedError as error:
            stream.close()
            _warn(stream, f"refused: {error}")
            return
        if evicted:
            _warn(
                evicted.stream,
                f"closed in favour of {stream.endpoint}: it was idle without buffers",
                Topic.TRAFFIC,
            )
        self._watch(connection)

    def _watch(self, connection: OpenConnection) -> None:
        self._listener.watch(
            connection.stream,
            partial(self._step, connection),
            partial(self._expire, connection),
            connection.handler.step_timeout,
        )

    def _step(self, connection: OpenConnection) -> None:
        """Let the handler of a connection read the bytes that have arrived."""
        handler = connection.handler
        before = handler.phase
        step = handler.step()
        if step is Step.WAIT:
            if handler.phase is not before:
                self._watch(connection)  # with another time limit
            return
        self._listener.unwatch(connection.stream)
        if step is Step.RUN:
            self._start(connection)
        else:
            self._forget(connection)

    def _expire(self, connection: OpenConnection) -> None:
        connection.handler.expire()
        self._listener.unwatch(connection.stream)
        self._forget(connection)

    def _start(self, connection: OpenConnection) -> None:
        """Give a connection its own thread."""
        stream = connection.stream
        connection.thread = Thread(
            target=self._serve, args=(connection,), name=str(stream.endpoint)
        )
        try:
            connection.thread.start()
        except RuntimeError as error:
            connection.thread = None
            self._forget(connection)
            self._connections.evict_idle()  # makes room for the next client
            _warn(stream, f"no thread to serve it: {error}")

    def _serve(self, connection: OpenConnection) -> None:
        try:
            connection.handler.run()
        finally:
            self._forget(connection)
            if not connection.handler.has_used_memory:
                self._budget.spend(time.thread_time())

    def _forget(self, connection: OpenConnection) -> None:
        connection.stream.close()
        self._connections.remove(connection)

    def _close(self) -> None:
        """Stop listening and end all sessions; the second call does nothing."""
        if self._closed:
            return
        self._closed = True
        self._listener.close()
        for connection in self._connections.all():
            connection.handler.finish()
            if connection.thread is None:
                connection.handler.end()
                self._forget(connection)
        self._wait(self.settings.grace)
        if self.unfinished:
            log.warning("%d sessions are cut off (--grace)", self.unfinished)
            self._quotas.stop()
            for connection in self._connections.all():
                connection.handler.cut_off()
            self._wait(CUT_OFF_SECONDS)
        if self._warm_up:
            self._warm_up.join()  # it ends after the kernel that it compiles

    def _wait(self, seconds: float) -> None:
        """Wait for the sessions to end, at most `seconds` together."""
        end = time.monotonic() + seconds
        for connection in self._connections.all():
            if connection.thread:
                connection.thread.join(max(0.0, end - time.monotonic()))


def _warn(stream: Stream, what: str, topic: Topic = Topic.STRANGERS) -> None:
    """Log a warning about a connection that has no session."""
    peer = str(stream.endpoint)
    log.warning("%s: %s", peer, what, extra={"peer": peer, "topic": topic})
