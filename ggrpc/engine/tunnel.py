"""A plain port for those who speak no TLS, to a server that wants it."""

from __future__ import annotations

import logging
import ssl
from threading import Lock, Thread, current_thread

from ggrpc.endpoint import Endpoint
from ggrpc.engine.acceptor import Acceptor
from ggrpc.engine.deadline import Deadline
from ggrpc.engine.pump import pump
from ggrpc.engine.tls import TlsStream
from ggrpc.engine.transport import Stream
from ggrpc.errors import GgrpcError

CONNECTING = 10.0  # seconds

log = logging.getLogger(__name__)


class Tunnel:
    """Listens from construction on, and takes each connection to the server.

    Args:
        listen: the plain port; 0 takes a free one.
        server: where what comes there goes.
        context: whom to trust, and what to show.

    Raises:
        BindError: the address cannot be had.
    """

    def __init__(
        self, listen: Endpoint, server: Endpoint, context: ssl.SSLContext
    ) -> None:
        self._server = server
        self._context = context
        self._acceptor = Acceptor(listen)
        self._lock = Lock()  # guards the one below
        self._open: dict[Thread, list[Stream]] = {}

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that it listens on."""
        return self._acceptor.endpoints

    def run(self) -> None:
        """Take connections until `stop` is called; then end them."""
        self._acceptor.run(self._take)
        self._acceptor.close()
        with self._lock:
            still_open = dict(self._open)
        for streams in still_open.values():
            for stream in streams:
                stream.shut()
        for thread in still_open:
            thread.join()

    def stop(self) -> None:
        """Make `run` return; from any thread, or a signal's handler."""
        self._acceptor.stop()

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
            deadline = Deadline(CONNECTING, "a faster line")
            far = TlsStream.connect_with(self._context, self._server, deadline)
            with self._lock:
                self._open[current_thread()].append(far)
            pump(stream, far)
        except (GgrpcError, OSError) as error:
            log.warning("%s: %s", stream.endpoint, error)
        finally:
            self._forget(current_thread())

    def _forget(self, thread: Thread) -> None:
        with self._lock:
            streams = self._open.pop(thread)
        for stream in streams:
            stream.close()
