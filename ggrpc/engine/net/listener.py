"""Listens, and hands over each connection; what is done with it is up to another."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.transport import Stream, accept, endpoint_of, listen
from ggrpc.errors import TransportError

# Seconds to wait where the system has no resources for one more connection.
SHORTAGE = 0.1

log = logging.getLogger(__name__)


class Listener:
    """Listens from construction on.

    Args:
        endpoint: where; port 0 takes a free one.
        make: makes a stream of a connection.
        shortage: called where the system has no resources left, to free some.

    Raises:
        BindError: the address cannot be had.
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
        """The addresses that it listens on."""
        return [endpoint_of(sock) for sock in self._listeners]

    def run(self, take: Callable[[Stream], None]) -> None:
        """Hand over connections until `stop` is called."""
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
        """Make `run` return; from any thread, or a signal's handler."""
        self._stopping = True
        try:
            self._wake.send(b"x")
        except OSError:
            pass  # closed: it has stopped; or full: it wakes as it is

    def close(self) -> None:
        """Listen no more."""
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
            time.sleep(SHORTAGE)
        except Exception:
            log.exception("a bug in ggrpc cost a client its connection")


@contextmanager
def _woken_by_signals(wake: socket.socket) -> Iterator[None]:
    """Let signals wake the main thread also where another thread got them.

    Python's handlers run in the main thread, between two of its steps. A signal that
    came just before it fell asleep, or to another thread, would wait until it wakes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
