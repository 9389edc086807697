"""How long a server waits for a client: for its HELLO, the rest of a request, the next
one, and for it to take a reply. Whoever lets it wait longer loses the connection.
"""

from __future__ import annotations

from ggrpc.engine.net.deadline import Deadline, MinimumRate
from ggrpc.engine.net.transport import Pieces, Stream
from ggrpc.engine.server.limits import SLOWEST, Limits
from ggrpc.errors import TransportTimeout


class TimedStream:
    """Receives and sends on a stream, within the limits of time.

    Args:
        stream: the connection.
        limits: has the seconds.
    """

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        # The time of what is under way; None between two requests.
        self._rate: MinimumRate | None = MinimumRate(
            limits.hello_seconds, "--hello-timeout", SLOWEST
        )
        stream.give_up_after(limits.hello_seconds)

    def handshake(self) -> None:
        """Encrypt the connection, where that is wanted; it is a part of greeting."""
        seconds = self._limits.hello_seconds
        self._stream.handshake(Deadline(seconds, "--hello-timeout"))

    def greeted(self) -> None:
        """HELLO is here: from now on the client may think between its requests."""
        limits = self._limits
        idle = limits.idle_seconds or limits.message_seconds
        self._stream.give_up_after(min(idle, limits.message_seconds))

    def request_is_whole(self) -> None:
        """What has begun is complete."""
        self._rate = None

    def receive(self, view: memoryview, begun: bool) -> int:
        """Receive what is there into `view`, waiting for at least one byte.

        Args:
            view: where it goes.
            begun: whether a part of a request is here.

        Returns:
            How many bytes; 0 when the client has left.

        Raises:
            ConnectionLost: the connection was reset.
            TransportTimeout: it took too long.
        """
        if self._rate is None and begun:
            self._rate = self._message_rate()
        if self._rate is None:
            return self._receive_idly(view)
        return self._stream.receive(view, self._rate)

    def receive_exactly(self, view: memoryview) -> None:
        """Fill `view` with the data of a request."""
        self._stream.receive_exactly(view, self._message_rate())

    def send(self, pieces: Pieces) -> None:
        """Send a reply."""
        self._stream.send(pieces, self._message_rate())

    def _message_rate(self) -> MinimumRate:
        return MinimumRate(self._limits.message_seconds, "--message-timeout", SLOWEST)

    def _receive_idly(self, view: memoryview) -> int:
        end = Deadline(self._limits.idle_seconds)
        while True:
            try:
                return self._stream.receive_soon(view)
            except TransportTimeout:
                if end.is_over:
                    raise TransportTimeout(
                        f"no request for {end.seconds:g} s (--idle-timeout)"
                    ) from None
