"""Listens, accepts connections and passes each of them to a callback.

It can also watch connections until bytes arrive, so that a waiting connection needs no
thread.
"""

from __future__ import annotations

import heapq
import logging
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.transport import Stream, accept, endpoint_of, listen
from ggrpc.errors import TransportError

# How long to wait if the system lacks resources for another connection.
SHORTAGE_SECONDS = 0.1

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Watch:
    """A stream that is watched.

    Attributes:
        ready: called when bytes have arrived or the peer has closed.
        late: called at `until` if neither has happened.
        until: the time on the monotonic clock, None for no limit.
    """

    ready: Callable[[], object]
    late: Callable[[], object]
    until: float | None


class Listener:
    """Listening sockets, and the loop that accepts from them and watches streams.

    It listens from construction on.

    Args:
        endpoint: the address to listen on; port 0 picks a free port.
        make: makes a stream from a socket and the peer's address.
        shortage: called if the system lacks resources, to free some.
        pace: called after each event; may sleep.

    Raises:
        BindError: the address is not available.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        make: Callable[[socket.socket, Endpoint], Stream] = Stream,
        shortage: Callable[[], object] = lambda: None,
        pace: Callable[[], object] = lambda: None,
    ) -> None:
        self._make = make
        self._shortage = shortage
        self._pace = pace
        self._listeners = listen(endpoint)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._watches: dict[Stream, _Watch] = {}
        # Entries are dropped when their time comes, not when their watch ends.
        self._times: list[tuple[float, int, Stream, _Watch]] = []
        self._numbers = count()

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that the listener is bound to."""
        return [endpoint_of(sock) for sock in self._listeners]

    def run(self, take: Callable[[Stream], None]) -> None:
        """Pass each connection to `take` until `stop` is called."""
        for sock in self._listeners:
            accept_from = partial(self._accept, sock, take)
            self._selector.register(sock, selectors.EVENT_READ, accept_from)
        drain = partial(self._woken.recv, 64)
        self._selector.register(self._woken, selectors.EVENT_READ, drain)
        with _woken_by_signals(self._wake):
            while not self._stopping:
                for key, _ in self._selector.select(self._timeout()):
                    self._call(key.data)
                self._call_late()

    def watch(
        self,
        stream: Stream,
        ready: Callable[[], object],
        late: Callable[[], object],
        seconds: float | None,
    ) -> None:
        """Watch a stream, or change how it is watched, from a callback of `run`.

        Args:
            stream: the stream; it must not be closed before `unwatch`.
            ready: called whenever bytes have arrived or the peer has closed.
            late: called after `seconds`, unless the watch was changed before.
            seconds: None for no limit.
        """
        until = None if seconds is None else time.monotonic() + seconds
        watch = _Watch(ready, late, until)
        if stream in self._watches:
            self._selector.modify(stream, selectors.EVENT_READ, ready)
        else:
            self._selector.register(stream, selectors.EVENT_READ, ready)
        self._watches[stream] = watch
        if until is not None:
            entry = until, next(self._numbers), stream, watch
            heapq.heappush(self._times, entry)

    def unwatch(self, stream: Stream) -> None:
        """Stop watching a stream, from a callback of `run`."""
        del self._watches[stream]
        self._selector.unregister(stream)

    def stop(self) -> None:
        """Make `run` return. Any thread and any signal handler may call this."""
        self._stopping = True
        # A closed socket means that `run` has returned; a full one wakes it anyway.
        with suppress(OSError):
            self._wake.send(b"x")

    def close(self) -> None:
        """Close the listening sockets, and stop watching streams."""
        self._selector.close()
        self._watches.clear()
        for sock in (*self._listeners, self._wake, self._woken):
            sock.close()

    def _timeout(self) -> float | None:
        """The seconds until the first watch is late, None if none ever will be."""
        while self._times and not self._is_current(*self._times[0]):
            heapq.heappop(self._times)
        return max(0.0, self._times[0][0] - time.monotonic()) if self._times else None

    def _is_current(
        self, until: float, number: int, stream: Stream, watch: _Watch
    ) -> bool:
        return self._watches.get(stream) is watch

    def _call_late(self) -> None:
        while self._timeout() == 0:
            watch = heapq.heappop(self._times)[3]
            self._call(watch.late)

    def _call(self, callback: Callable[[], object]) -> None:
        """Run a callback, unless the loop has been stopped meanwhile."""
        if self._stopping:
            return
        try:
            callback()
        except Exception:
            log.exception("a bug in ggrpc disturbed a connection")
        self._pace()

    def _accept(self, listener: socket.socket, take: Callable[[Stream], None]) -> None:
        try:
            stream = accept(listener, self._make)
            if stream is not None:
                take(stream)
        except TransportError as error:
            log.error("%s; raise the limit on open files (ulimit -n)", error)
            self._shortage()
            time.sleep(SHORTAGE_SECONDS)


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
