"""Accepts connections and passes each of them to a callback."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.transport import Stream, accept, endpoint_of, listen
from ggrpc.errors import TransportError

# How long to wait if the system lacks resources for another connection.
SHORTAGE_SECONDS = 0.1

log = logging.getLogger(__name__)


class Listener:
    """Listening sockets and the loop that accepts from them.

    It listens from construction on.

    Args:
        endpoint: the address to listen on; port 0 picks a free port.
        make: makes a stream from a socket and the peer's address.
        shortage: is called to free resources if the system lacks them.

    Raises:
        BindError: the address is not available.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        make: Callable[[socket.socket, Endpoint], Stream] = Stream,
        shortage: Callable[[], object] = lambda: None,
    ) -> None:
        self._make = make
        self._shortage = shortage
        self._listeners = listen(endpoint)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._stopping = False

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that the listener is bound to."""
        return [endpoint_of(sock) for sock in self._listeners]

    def run(self, take: Callable[[Stream], None]) -> None:
        """Pass each connection to `take` until `stop` is called."""
        with selectors.DefaultSelector() as selector, _woken_by_signals(self._wake):
            for sock in (*self._listeners, self._woken):
                selector.register(sock, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select():
                    if key.fileobj is self._woken:
                        self._woken.recv(64)
                    else:
                        self._accept(key.fileobj, take)  # type: ignore[arg-type]

    def stop(self) -> None:
        """Make `run` return. Any thread and any signal handler may call this."""
        self._stopping = True
        # A closed socket means that `run` has returned; a full one wakes it anyway.
        with suppress(OSError):
            self._wake.send(b"x")

    def close(self) -> None:
        """Close the listening sockets."""
        for sock in (*self._listeners, self._wake, self._woken):
            sock.close()

    def _accept(self, listener: socket.socket, take: Callable[[Stream], None]) -> None:
        try:
            stream = accept(listener, self._make)
            if stream is not None:
                take(stream)
        except TransportError as error:
            log.error("%s; raise the limit of open files (ulimit -n)", error)
            self._shortage()
            time.sleep(SHORTAGE_SECONDS)
        except Exception:
            log.exception("a bug in ggrpc dropped a new connection")


@contextmanager
def _woken_by_signals(wake: socket.socket) -> Iterator[None]:
    """Make signals wake the main thread, even if another thread receives them.

    Python runs signal handlers in the main thread, between two bytecodes. Without this,
    the handler of a signal that arrives just before the main thread blocks, or in
    another thread, would not run until the main thread wakes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
