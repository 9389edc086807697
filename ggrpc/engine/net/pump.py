"""Forwards bytes between two connections in both directions, until both end.

One thread serves both directions, because two threads cannot use a TLS connection at
the same time.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from ggrpc.engine.net.transport import Stream

BUFFER_BYTES = 1 << 18  # in each direction

# What a non-blocking socket raises if it has nothing to read.
_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)


Watch = Callable[[memoryview], object]


def ignore(data: memoryview) -> None:
    """A `Watch` that does nothing."""


def pump(
    one: Stream,
    other: Stream,
    watch_one: Watch = ignore,
    watch_other: Watch = ignore,
    on_end: Callable[[bool], object] = lambda by_other: None,
) -> None:
    """Forward everything that each connection sends to the other.

    If one side closes its half, the other side's bytes still arrive. If one side resets
    its connection, or a stream was shut in this process, both are reset: a server may
    still owe an answer (see `Stream.reset`).

    Args:
        one: a connection.
        other: another connection.
        watch_one: called with each piece from `one` before it is forwarded, and with an
            empty view at the end of `one`, even after an error.
        watch_other: the same for `other`.
        on_end: called once, when a side has closed or reset its connection, before the
            opposite side can notice. The argument is True if that was `other`.

    Raises:
        OSError: a connection failed.
    """
    has_ended = False

    def end(by: Stream) -> None:
        nonlocal has_ended
        if not has_ended:
            has_ended = True
            on_end(by is other)

    flows = _Flow(one, other, watch_one, end), _Flow(other, one, watch_other, end)
    while not all(flow.ended for flow in flows):
        moved = [flow.move() for flow in flows]
        if any(flow.was_reset for flow in flows):
            one.reset()
            other.reset()
            return
        if not any(moved):
            _wait(flows)


class _Flow:
    """One direction.

    Attributes:
        ended: whether the source has ended and the sink's half is closed.
        was_reset: whether a peer has reset the source or the sink, or this process has
            shut the source.
        waits_for: the socket and the poll event that `move` needs, None if ready.
    """

    def __init__(
        self,
        source: Stream,
        sink: Stream,
        watch: Watch,
        on_end: Callable[[Stream], object],
    ) -> None:
        self._from = source
        self._to = sink
        self._source = source.nonblocking_socket()
        self._sink = sink.nonblocking_socket()
        self._watch = watch
        self._on_end = on_end  # called with a stream that its peer closed or reset
        self._view = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0
        self.ended = False
        self.was_reset = False
        self.waits_for: tuple[socket.socket, int] | None = None

    def move(self) -> bool:
        """Receive or send without blocking; return False if neither is possible."""
        self.waits_for = None
        if self.ended:
            return False
        if self._start == self._end:
            return self._receive()
        return self._send()

    def _receive(self) -> bool:
        try:
            count = self._source.recv_into(self._view)
        except _WANT_READ:
            self.waits_for = self._source, select.POLLIN
            return False
        except ssl.SSLWantWriteError:
            self.waits_for = self._source, select.POLLOUT
            return False
        except ConnectionError:
            self.was_reset = True
            count = 0
        if not count and self._from.was_shut:
            self.was_reset = True
        self._start, self._end = 0, count
        self._watch(self._view[:count])
        if not count:
            # First, because the sink's peer may act on the end as soon as it sees it:
            # a client that leaves may stop the proxy, which would seem to be the cause.
            self._on_end(self._from)
            self._end_sink()
        return True

    def _send(self) -> bool:
        try:
            self._start += self._sink.send(self._view[self._start : self._end])
        except (BlockingIOError, ssl.SSLWantWriteError):
            self.waits_for = self._sink, select.POLLOUT
            return False
        except ssl.SSLWantReadError:
            self.waits_for = self._sink, select.POLLIN
            return False
        except ConnectionError:
            self.was_reset = True
            self._watch(self._view[:0])
            self._on_end(self._to)
        return True

    def _end_sink(self) -> None:
        self.ended = True
        if self.was_reset:
            return
        with suppress(OSError):  # the other flow notices if the sink is gone
            # SSLSocket.shutdown would drop TLS state that the other flow needs.
            socket.socket.shutdown(self._sink, socket.SHUT_WR)


def _wait(flows: tuple[_Flow, _Flow]) -> None:
    """Wait until a flow can move bytes."""
    events: dict[int, int] = {}
    for flow in flows:
        if flow.waits_for:
            sock, event = flow.waits_for
            events[sock.fileno()] = events.get(sock.fileno(), 0) | event
    poll = select.poll()
    for fileno, event in events.items():
        poll.register(fileno, event)
    poll.poll()
