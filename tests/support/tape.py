"""A stream without a socket, which stores what a server sends."""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import NEVER, TimeLimit
from ggrpc.engine.net.transport import Pieces
from ggrpc.errors import ConnectionLost

PEER = Endpoint("192.0.2.1", 50052)
CHUNK = 1 << 10  # the most bytes that one call receives


class Tape:
    """A stream that receives given bytes and then ends.

    Attributes:
        sent: all bytes that were sent.
        was_shut: the attribute of a `Stream`.
    """

    endpoint = PEER
    subject = ""

    def __init__(self, recorded: bytes, was_shut: bool = False) -> None:
        self._left = memoryview(recorded)
        self.sent = bytearray()
        self.was_shut = was_shut

    def handshake(self, limit: TimeLimit = NEVER) -> None:
        """Do nothing."""

    def set_call_timeout(self, seconds: float) -> None:
        """Do nothing."""

    def receive(self, view: memoryview, limit: TimeLimit = NEVER) -> int:
        """Receive up to CHUNK bytes; 0 at the end."""
        count = min(len(view), len(self._left), CHUNK)
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    receive_spinning = receive

    def receive_exactly(self, view: memoryview, limit: TimeLimit = NEVER) -> None:
        """Fill `view`."""
        while view:
            count = self.receive(view)
            if not count:
                raise ConnectionLost("the tape has ended")
            view = view[count:]

    def receive_pieces(self, views: Sequence[memoryview]) -> None:
        """Fill one view after the other."""
        for view in views:
            self.receive_exactly(view)

    def send(self, pieces: Pieces, limit: TimeLimit = NEVER) -> None:
        """Store the bytes in `sent`."""
        for piece in pieces:
            self.sent += piece
