"""One link: the connection between devices of two servers, and the all-reduce over it.

It carries no messages, only elements, whose number both servers know. They are sent as
float32, or as BF16 from MIN_BF16 elements on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from threading import Event

import numpy as np

from ggrpc.devices.device import Buffer
from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.deadline import MIN_BYTES_PER_SECOND, Deadline, MinimumRate
from ggrpc.engine.net.rendezvous import await_peer, meet_peer
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.layouts import CAPS_BYTES
from ggrpc.errors import RemoteProtocolError
from ggrpc.formats.codecs import pack_bf16, unpack_bf16

# Seconds to wait for the other server; its request comes at the same time.
MEET_SECONDS = 10.0
# The number of elements from which they are sent as BF16, as in ggml-rpc.cpp.
MIN_BF16 = 32768
# Elements that are converted and sent at once: they stay in the processor's cache, and
# the other server receives them while the next ones are converted.
CHUNK = 1 << 18
# The first bytes of a TLS connection: a handshake record.
TLS_HELLO = b"\x16\x03\x01"


class Link:
    """The connection of one device with a device of another server.

    Args:
        stream: the connection.
        rank: 0 sends first, 1 receives first.
        timeout: how many seconds the other server may be silent during a reduction.

    Attributes:
        stream: the connection.
        rank: 0 or 1.
    """

    def __init__(self, stream: Stream, rank: int, timeout: float) -> None:
        stream.set_call_timeout(timeout)
        self.stream = stream
        self.rank = rank
        self._timeout = timeout

    def scratch_bytes(self, count: int) -> int:
        """The bytes of memory that the reduction of `count` elements takes."""
        return count * _wire_type(count).itemsize if self.rank == 1 else 0

    def reduce(self, buffer: Buffer, at: int, count: int) -> None:
        """Exchange F32 elements with the other server, and add the received ones.

        This server adds its own elements unrounded; those received may be rounded to
        BF16.

        Args:
            buffer: the buffer with the elements.
            at: the offset of the first one, in bytes.
            count: the number of elements, the same on the other server.

        Raises:
            TransportError: the connection broke, or the other server is silent.
            RemoteProtocolError: the other server sent more elements.
        """
        # NaNs and infinite sums are valid data of the client: numpy must not warn.
        with buffer.update(at, 4 * count) as view, np.errstate(all="ignore"):
            ours, wire = np.frombuffer(view, np.float32), _wire_type(count)
            outgoing = (_rounded(part, wire) for part in _chunks(ours))
            if self.rank == 0:
                self._begin_sending(count)
                for elements in outgoing:
                    self._send(elements)
                for part in _chunks(ours):
                    _add(part, self._received(len(part), wire))
            else:
                first = next(outgoing)  # while the other server does the same
                theirs = self._received(count, wire)
                self._begin_sending(count)
                for elements in chain([first], outgoing):
                    self._send(elements)
                for part, their_part in zip(
                    _chunks(ours), _chunks(theirs), strict=True
                ):
                    _add(part, their_part)

    def _begin_sending(self, count: int) -> None:
        """Check that the other server waits, and has sent no more than it should."""
        if self.stream.has_input:
            raise RemoteProtocolError(
                f"{self.stream.endpoint} sent more than the {count} elements of this "
                "tensor"
            )

    def _send(self, elements: np.ndarray) -> None:
        self.stream.send([elements.data.cast("B")], self._rate())

    def _received(self, count: int, wire: np.dtype) -> np.ndarray:
        elements = np.empty(count, wire)
        self.stream.receive_exactly(elements.data.cast("B"), self._rate())
        return elements

    def _rate(self) -> MinimumRate:
        return MinimumRate(self._timeout, "--comm-timeout", MIN_BYTES_PER_SECOND)


def make_link(
    settings: CommSettings, request: m.CommInit, client: str, stop: Event
) -> Link:
    """Connect with the server that a client names.

    Args:
        settings: what the server allows.
        request: the client's request.
        client: the client's address.
        stop: ends the wait when another thread sets it.

    Raises:
        RefusedError: the server does not allow this link.
        TransportError: the other server did not connect, or could not be reached.
    """
    settings.check(request, client)
    deadline = Deadline(MEET_SECONDS, None)
    if request.rank == 0:
        stream = await_peer(
            Endpoint(settings.host, request.port),
            settings.admits,
            deadline,
            settings.server_tls,
            stop,
        )
    else:
        stream = meet_peer(
            Endpoint(request.host_name, request.port),
            lambda host: settings.may_connect(host, client),
            deadline,
            settings.client_tls,
            stop,
        )
    try:
        _greet(stream, request.rank, deadline)
    except BaseException:
        stream.close()
        raise
    return Link(stream, request.rank, settings.timeout)


def _greet(stream: Stream, rank: int, deadline: Deadline) -> None:
    """Exchange capabilities, all zero for TCP; rank 1 begins."""
    theirs = memoryview(bytearray(CAPS_BYTES))
    if rank == 0:
        stream.receive_exactly(theirs, deadline)
        if theirs[: len(TLS_HELLO)] == TLS_HELLO:
            raise RemoteProtocolError(
                f"{stream.endpoint} speaks TLS: serve with --tls-cert and "
                "--tls-client-ca here too, or there without them"
            )
    stream.send([bytes(CAPS_BYTES)], deadline)
    if rank == 1:
        stream.receive_exactly(theirs, deadline)


def _wire_type(count: int) -> np.dtype:
    """The type in which `count` elements are sent; BF16 is stored as uint16."""
    return np.dtype(np.uint16 if count >= MIN_BF16 else np.float32)


def _chunks(elements: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(elements), CHUNK):
        yield elements[first : first + CHUNK]


def _rounded(elements: np.ndarray, wire: np.dtype) -> np.ndarray:
    """Elements in the type in which they are sent; float32 is not copied."""
    if wire == np.float32:
        return elements
    rounded = np.empty(len(elements), wire)
    pack_bf16(elements, rounded)
    return rounded


def _add(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Add received elements to `ours`, in place."""
    if theirs.dtype == np.float32:
        np.add(ours, theirs, out=ours)
        return
    widened = np.empty(len(theirs), np.float32)
    unpack_bf16(theirs, widened)
    np.add(ours, widened, out=ours)
