"""Moves bytes between two connections, both ways, until both ways have ended.

One thread serves both ways, since an encrypted connection cannot be read and written by
two at the same time.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable

from ggrpc.engine.net.transport import Stream

ROOM = 1 << 18  # bytes on their way, in each direction

# What a socket that does not block says where it would have.
_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)


Watch = Callable[[memoryview], object]


def pass_unseen(data: memoryview) -> None:
    """For those who need not know what passes."""


def pump(
    one: Stream,
    other: Stream,
    watch_one: Watch = pass_unseen,
    watch_other: Watch = pass_unseen,
) -> None:
    """Move all that comes from each to the other.

    The end of what one sends is passed on, and what the other sends still arrives.

    Args:
        one: a connection.
        other: another.
        watch_one: is shown what the one sends, before the other gets it; at the end,
            however it came, no bytes.
        watch_other: the same for the other.

    Raises:
        OSError: one of them failed.
    """
    near, far = one.hand_over(), other.hand_over()
    flows = _Flow(near, far, watch_one), _Flow(far, near, watch_other)
    while not all(flow.ended for flow in flows):
        # Not `any` of a generator: each has its turn.
        if not any([flow.move() for flow in flows]):
            _wait(flows)


class _Flow:
    """One direction.

    Attributes:
        ended: whether the source has ended, and the sink was told.
        waits_for: what to wait for before it can go on.
    """

    def __init__(
        self, source: socket.socket, sink: socket.socket, watch: Watch
    ) -> None:
        self._source = source
        self._sink = sink
        self._watch = watch
        self._view = memoryview(bytearray(ROOM))
        self._start = self._end = 0
        self.ended = False
        self.waits_for: tuple[socket.socket, int] | None = None

    def move(self) -> bool:
        """Receive or send what is possible now; False where nothing is."""
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
            count = 0  # it broke off: no more will come
        self._start, self._end = 0, count
        self._watch(self._view[:count])
        if not count:
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
            self.ended = True  # the sink is gone, as the other way will see
        return True

    def _end_sink(self) -> None:
        self.ended = True
        try:
            # Not by the method: TLS would drop the state that the other way needs.
            socket.socket.shutdown(self._sink, socket.SHUT_WR)
        except OSError:
            pass  # it is gone; the other way will see that


def _wait(flows: tuple[_Flow, _Flow]) -> None:
    """Wait until one of them can go on."""
    events: dict[int, int] = {}
    for flow in flows:
        if flow.waits_for:
            sock, event = flow.waits_for
            events[sock.fileno()] = events.get(sock.fileno(), 0) | event
    poll = select.poll()
    for fileno, event in events.items():
        poll.register(fileno, event)
    poll.poll()
