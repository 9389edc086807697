"""Applies a server's time limits to the connection of a client.

There are limits for HELLO, for the rest of a request, for the next request, and for the
client to receive a reply. The connection of a client that exceeds one is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from ggrpc.engine.net.deadline import MIN_BYTES_PER_SECOND, Deadline, MinimumRate
from ggrpc.engine.net.transport import Pieces, Stream
from ggrpc.engine.server.limits import Limits
from ggrpc.errors import TransportTimeout


class TimedStream:
    """A stream whose calls are limited by a server's `Limits`.

    Args:
        stream: the connection.
        limits: the limits, of which only the times matter here.
    """

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        # The limit of the request that is arriving; None between two requests.
        self._rate: MinimumRate | None = MinimumRate(
            limits.hello_seconds, "--hello-timeout", MIN_BYTES_PER_SECOND
        )
        stream.set_call_timeout(limits.hello_seconds)

    def handshake(self) -> None:
        """Do the TLS handshake, if there is one, within the time for HELLO."""
        seconds = self._limits.hello_seconds
        self._stream.handshake(Deadline(seconds, "--hello-timeout"))

    def greeted(self) -> None:
        """Switch from the limit for HELLO to those for later requests."""
        limits = self._limits
        idle = limits.idle_seconds or limits.message_seconds
        self._stream.set_call_timeout(min(idle, limits.message_seconds))

    def expire(self) -> NoReturn:
        """Raise the error for a client that sent nothing in time.

        Raises:
            TransportTimeout: always.
        """
        if self._rate is None:
            raise self._idle_for_too_long()
        seconds = self._limits.hello_seconds
        raise TransportTimeout(f"no HELLO for {seconds:g} s (--hello-timeout)")

    def request_received(self) -> None:
        """End the limit of the request that was arriving."""
        self._rate = None

    def receive(self, view: memoryview, begun: bool) -> int:
        """Receive available bytes into `view`; block until there is at least one.

        Args:
            view: the destination.
            begun: whether a part of a request has arrived.

        Returns:
            The number of bytes, 0 if the client has closed.

        Raises:
            ConnectionLost: the connection was reset.
            TransportTimeout: the client exceeded a limit.
        """
        if self._rate is None and begun:
            self._rate = self._message_rate()
        if self._rate is None:
            return self._receive_idly(view)
        return self._stream.receive(view, self._rate)

    def receive_exactly(self, view: memoryview) -> None:
        """Fill `view` with the data of a request."""
        self._stream.receive_exactly(view, self._message_rate())

    def receive_pieces(self, views: Sequence[memoryview]) -> None:
        """Fill one view after the other with the data of a request."""
        self._stream.receive_pieces(views, self._message_rate())

    def send(self, pieces: Pieces) -> None:
        """Send a reply."""
        self._stream.send(pieces, self._message_rate())

    def _message_rate(self) -> MinimumRate:
        seconds = self._limits.message_seconds
        return MinimumRate(seconds, "--message-timeout", MIN_BYTES_PER_SECOND)

    def _receive_idly(self, view: memoryview) -> int:
        idle = Deadline(self._limits.idle_seconds)
        while True:
            try:
                return self._stream.receive_spinning(view)
            except TransportTimeout:
                if idle.is_over:
                    raise self._idle_for_too_long() from None

    def _idle_for_too_long(self) -> TransportTimeout:
        seconds = self._limits.idle_seconds
        return TransportTimeout(f"no request for {seconds:g} s (--idle-timeout)")
