"""A port whose connections are taken to a server: what a tunnel and a recorder are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Lock, Thread, current_thread

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.listener import Listener
from ggrpc.engine.net.pump import pump
from ggrpc.engine.net.transport import Stream
from ggrpc.errors import GgrpcError

log = logging.getLogger(__name__)

Carry = Callable[[Stream, Stream], None]


class Proxy:
    """Listens from construction on, and takes each connection to the server.

    Args:
        listen: the port; 0 takes a free one.
        server: where what comes there goes; for the log.
        connect: connects with it.
        carry: moves what is said between a client and the server, until both are done.
        ended: called when a connection is over, and counted no more.

    Raises:
        BindError: the address cannot be had.
    """

    def __init__(
        self,
        listen: Endpoint,
        server: Endpoint,
        connect: Callable[[], Stream],
        carry: Carry = pump,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._server = server
        self._connect = connect
        self._carry_between = carry
        self._ended = ended
        self._listener = Listener(listen)
        self._lock = Lock()  # guards the one below
        self._open: dict[Thread, list[Stream]] = {}

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that it listens on."""
        return self._listener.endpoints

    def run(self) -> None:
        """Take connections until `stop` is called; then end them."""
        self._listener.run(self._take)
        self._listener.close()
        with self._lock:
            still_open = dict(self._open)
        for streams in still_open.values():
            for stream in streams:
                stream.shut()
        for thread in still_open:
            thread.join()

    def close(self) -> None:
        """Listen no more, where `run` was never called."""
        self._listener.close()

    def stop(self) -> None:
        """Make `run` return; from any thread, or a signal's handler."""
        self._listener.stop()

    def _take(self, stream: Stream) -> None:
        thread = Thread(target=self._carry, args=(stream,), name=str(stream.endpoint))
        with self._lock:
            self._open[thread] = [stream]
        try:
            thread.start()
        except RuntimeError as error:
            log.error("%s: no thread to serve it: %s", stream.endpoint, error)
            self._forget(thread)

    def _carry(self, stream: Stream) -> None:
        log.debug("%s is taken to %s", stream.endpoint, self._server)
        try:
            far = self._connect()
            with self._lock:
                self._open[current_thread()].append(far)
            self._carry_between(stream, far)
        except (GgrpcError, OSError) as error:
            log.warning("%s: %s", stream.endpoint, error)
        finally:
            self._forget(current_thread())

    def _forget(self, thread: Thread) -> None:
        with self._lock:
            streams = self._open.pop(thread)
        for stream in streams:
            stream.close()
        self._ended()
