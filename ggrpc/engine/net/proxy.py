"""A port that forwards its connections to a server, for tunnels and recorders."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from threading import Lock, Thread, current_thread

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.listener import Listener
from ggrpc.engine.net.pump import pump
from ggrpc.engine.net.transport import Stream
from ggrpc.errors import GgrpcError

log = logging.getLogger(__name__)

# Called when one side has closed its connection; True if it was the server.
OnEnd = Callable[[bool], object]
# Forwards between a client and the server until both have closed.
Forward = Callable[[Stream, Stream, OnEnd], None]


def forward(client: Stream, server: Stream, on_end: OnEnd) -> None:
    """Forward everything that each side sends to the other."""
    pump(client, server, on_end=on_end)


class Proxy:
    """A listener that connects each of its clients to a server.

    It listens from construction on. Each connection has its own thread.

    Args:
        listen: the address to listen on; port 0 picks a free port.
        server: the server's address, for the log.
        connect: opens a connection to the server.
        forward: forwards bytes between a client and the server until both end.
        ended: called after a connection has ended.

    Raises:
        BindError: the address is not available.
    """

    def __init__(
        self,
        listen: Endpoint,
        server: Endpoint,
        connect: Callable[[], Stream],
        forward: Forward = forward,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._server = server
        self._connect = connect
        self._forward = forward
        self._ended = ended
        self._listener = Listener(listen)
        self._lock = Lock()  # guards the two below
        self._stopped = False
        self._open: dict[Thread, list[Stream]] = {}

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._open)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that the proxy is bound to."""
        return self._listener.endpoints

    def run(self) -> None:
        """Accept connections until `stop` is called; then reset them.

        A thread that still waits for the server to accept or to shake hands resets its
        connection later.
        """
        Thread(target=self._check_server, daemon=True).start()
        self._listener.run(self._take)
        self._listener.close()
        with self._lock:
            self._stopped = True
            still_open = dict(self._open)
        for streams in still_open.values():
            for stream in streams:
                stream.interrupt()
        for thread, (_, *far) in still_open.items():
            if far:
                thread.join()

    def close(self) -> None:
        """Close the listening sockets of a proxy that never ran."""
        self._listener.close()

    def stop(self) -> None:
        """Make `run` return. Any thread and any signal handler may call this."""
        self._listener.stop()

    def _check_server(self) -> None:
        """Log whether the server can be reached, before a client needs it."""
        try:
            self._connect().close()
        except GgrpcError as error:
            log.warning("%s; connections fail until it can be reached", error)
        else:
            log.info("%s can be reached", self._server)

    def _take(self, stream: Stream) -> None:
        # A daemon: the process does not wait for a server that never shakes hands.
        thread = Thread(
            target=self._serve, args=(stream,), name=str(stream.endpoint), daemon=True
        )
        with self._lock:
            self._open[thread] = [stream]
        try:
            thread.start()
        except RuntimeError as error:
            log.error("%s: no thread to serve it: %s", stream.endpoint, error)
            self._forget(thread)

    def _serve(self, stream: Stream) -> None:
        log.debug("%s is forwarded to %s", stream.endpoint, self._server)
        far = None
        try:
            far = self._connect()
            with self._lock:
                self._open[current_thread()].append(far)
                if self._stopped:
                    far.interrupt()
            self._forward(stream, far, partial(self._log_end, stream, far))
        except (GgrpcError, OSError) as error:
            if far:
                far.reset()
            if not self._stopped:
                reason = getattr(error, "strerror", None) or error
                log.warning("%s: %s", stream.endpoint, reason)
        finally:
            self._forget(current_thread())

    def _log_end(self, stream: Stream, far: Stream, by_server: bool) -> None:
        if by_server and not far.was_shut:
            log.info(
                "%s closed the connection of %s: it died, or refused a request; its "
                "log says why",
                *(self._server, stream.endpoint),
            )

    def _forget(self, thread: Thread) -> None:
        with self._lock:
            streams = self._open.pop(thread)
        for stream in streams:
            stream.close()
        self._ended()
