"""Replays one recorded connection on new devices, as a server session.

A replay session differs from a session of a server: buffers have the handles and
addresses of the recorded server, data comes from the recording, a graph can run several
times on the same inputs, and there are no quotas.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from ggrpc.devices.device import Buffer, Device, Placed, Program
from ggrpc.engine.recording.exchanges import Exchange
from ggrpc.engine.recording.snapshot import RepeatableProgram
from ggrpc.engine.recording.substitute_weights import SubstituteWeights
from ggrpc.engine.server.address_space import AddressSpace
from ggrpc.engine.server.fair_share import FairSemaphore
from ggrpc.engine.server.quotas import ClientQuota, MemoryQuota, Reservation
from ggrpc.engine.server.session import DataLink, Session
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.dialects import Dialect
from ggrpc.errors import RecordingError, RefusedError
from ggrpc.graph import Graph
from ggrpc.tensor import Tensor

MAX_WRITE = 16 << 20  # bytes that are written to a target at once
log = logging.getLogger(__name__)

_SETS_DATA = m.SetTensor | m.SetTensor2D


class RecordedLink(DataLink):
    """The data of one exchange, in place of a connection.

    Args:
        exchange: the recorded request and its reply.
        weights: the source of data that the recording lacks.

    Attributes:
        sent: the data that the session sent; None if it sent none.
    """

    def __init__(self, exchange: Exchange, weights: SubstituteWeights) -> None:
        self._exchange = exchange
        self._weights = weights
        self._omitted = exchange.message.omitted
        self._pieces = exchange.data()
        request = exchange.request
        if self._omitted and isinstance(request, m.SetTensor2D):
            # The rows of a tensor split are not contiguous in a GGUF file.
            self._pieces = iter([weights.random(request.tensor, request.data_size)])
            self._omitted = None
        self._piece = memoryview(b"")
        self.sent: bytes | None = None

    def receive_data(self, view: memoryview) -> None:
        """Fill `view` with the next recorded bytes, or with substitutes.

        Raises:
            RecordingError: a checksum is wrong.
        """
        if self._omitted:
            request = cast(m.SetTensor, self._exchange.request)
            self._weights.fill(view, request.tensor, request.offset, self._omitted.hash)
            return
        while len(view):
            if not self._piece:
                self._piece = memoryview(next(self._pieces))
            count = min(len(view), len(self._piece))
            view[:count] = self._piece[:count]
            view, self._piece = view[count:], self._piece[count:]

    def note(self, what: object) -> None:
        """Log why the reply to a request reports a failure."""
        log.info("%s", what)

    def send_pieces(self, size: int, batches: Iterable[Sequence[memoryview]]) -> None:
        """Keep the data of a reply that the session sends in pieces."""
        self.sent = b"".join(bytes(view) for batch in batches for view in batch)

    def send(self, request: m.Request, reply: m.Reply) -> None:
        """Keep the data of a reply, to compare it with the recorded one."""
        data = cast(m.TensorData, reply).data
        assert data is not None
        self.sent = bytes(data)


class RecordedAddressSpace(AddressSpace):
    """Buffers with the handles and addresses that the recorded server gave them."""

    def adopt(self, handle: int, buffer: Buffer, device: Device) -> None:
        """Add a buffer under a recorded handle."""
        self.placed[handle] = Placed(handle, buffer)
        self.devices[handle] = device

    def move(self, handle: int, base: int) -> None:
        """Set the recorded address of a buffer.

        Raises:
            RecordingError: the recording does not contain its allocation.
        """
        self.placed[handle] = self.find(handle)._replace(base=base)

    def find(self, handle: int) -> Placed:
        """The buffer with a recorded handle.

        Raises:
            RecordingError: the recording does not contain its allocation.
        """
        try:
            return super().find(handle)
        except RefusedError:
            raise RecordingError(
                f"buffer {handle:#x} was not allocated in the recording; start "
                "'ggrpc record' before the client"
            ) from None

    def part(self, tensor: Tensor, offset: int, size: int) -> tuple[Buffer, int]:
        """The buffer of a tensor, and the offset of some of its bytes in the buffer.

        Raises:
            RecordingError: the bytes do not lie inside the buffer.
        """
        try:
            return super().part(tensor, offset, size)
        except RefusedError as error:
            raise RecordingError(str(error)) from None


class ReplaySession(Session):
    """The buffers and programs of one recorded connection.

    Args:
        devices: the target devices. The first one also stands in for a recorded device
            with a number that the target does not have.
        dialect: the dialect of the recorded connection.
        weights: the source of data that the recording lacks.
        repeat: how often to run each graph, each time on the same inputs.

    Attributes:
        seconds: the time of each run of the last graph, in seconds.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        dialect: Dialect,
        weights: SubstituteWeights,
        repeat: int = 1,
    ) -> None:
        super().__init__(devices, dialect.tables, _unlimited(), weights)
        self._space = self._addresses = RecordedAddressSpace()
        self._weights = weights
        self._repeat = repeat
        self._computed: dict[Device, Graph] = {}  # the last graph of each device
        self.seconds: list[float] = []

    def replay(self, exchange: Exchange) -> bytes | None:
        """Repeat a recorded request.

        Returns:
            The bytes that GET_TENSOR or GET_TENSOR_2D read; None for other commands.

        Raises:
            RecordingError: the recording is damaged or incomplete.
            GgrpcError: the target device cannot do it.
        """
        request = exchange.request
        link = RecordedLink(exchange, self._weights)
        if isinstance(request, m.AllocBuffer):
            self._adopt(request, exchange.reply)
        elif isinstance(request, m.BufferGetBase):
            self._addresses.move(request.remote_ptr, exchange.reply.base_ptr)
        elif isinstance(request, m.SetTensorHash):
            if exchange.reply.result:  # the data was in the cache of the server
                self.handle(request, link)
        elif isinstance(request, _SETS_DATA) and not exchange.message.omitted:
            for part in _parts(request):
                self.handle(part, link)
            self._weights.counts.recorded += 1
        else:
            self.handle(request, link)
        return link.sent

    def handle(self, request: m.Request, link: DataLink) -> m.Reply | None:
        """Execute a request; see `Session.handle`.

        Raises:
            RecordingError: the recording lacks what the request needs.
        """
        if isinstance(request, m.CommAllreduce):
            raise RecordingError(
                "COMM_ALLREDUCE adds data of another server, which is not recorded; "
                "set GGML_RPC_NO_COMM=1 for the client, and record again"
            )
        try:
            return super().handle(request, link)
        except RefusedError as error:
            if isinstance(request, m.GraphRecompute):
                raise RecordingError(
                    f"{error}: the recording lacks it; start 'ggrpc record' before the "
                    "client"
                ) from None
            raise

    def graph(self, number: int) -> Graph:
        """The last graph that the device with a recorded number computed."""
        return self._computed[self._device(number)]

    def named(self, tensor: Tensor, size: int) -> Tensor:
        """The node of a computed graph with the same bytes as an unnamed tensor.

        ggrpc's own client reads unnamed tensors of type I8. A node has the type that
        the comparison needs.

        Args:
            tensor: the tensor that the client read.
            size: the number of bytes that it read.

        Returns:
            The node; `tensor` itself if it has a name, or if no node fits.
        """
        if tensor.name:
            return tensor
        for graph in self._computed.values():
            for other in reversed(graph.computed):
                if (other.data, other.nbytes) == (tensor.data, size):
                    return other
        return tensor

    def _adopt(self, request: m.AllocBuffer, reply: m.Allocated) -> None:
        """Allocate a buffer of the recorded size, unless the recorded server failed."""
        if reply.remote_ptr:
            device = self._device(request.device)
            with self._quota.memory.reserved_unless_error(reply.remote_size):
                buffer = device.allocate(reply.remote_size)
            self._addresses.adopt(reply.remote_ptr, buffer, device)

    def _device(self, number: int) -> Device:
        """The target of a recorded device."""
        return super()._device(number if number < len(self._devices) else 0)

    def _build(
        self, device: Device, graph: Graph, buffers: Mapping[int, Placed]
    ) -> RepeatableProgram:
        return RepeatableProgram(super()._build(device, graph, buffers), graph, buffers)

    def _run(self, program: Program, device: Device) -> None:
        """Run a program `repeat` times on the same inputs, and time each run."""
        program = cast(RepeatableProgram, program)
        self._computed[device] = program.graph
        repeats = self._repeat - 1
        restore = program.snapshot() if repeats else lambda: None
        self.seconds = [_timed(program, device)]
        for _ in range(repeats):
            restore()
            self.seconds.append(_timed(program, device))


def _unlimited() -> ClientQuota:
    """A quota without limits, and without slots, because `_run` takes none."""
    memory = MemoryQuota(None, sys.maxsize, "no limit")
    return ClientQuota(memory, Reservation(memory), sys.maxsize, FairSemaphore(), {})


def _parts(request: _SETS_DATA) -> Iterator[m.Request]:
    """Split a request into parts of at most `MAX_WRITE` bytes, to save memory."""
    if isinstance(request, m.SetTensor2D):
        yield from _row_parts(request)
        return
    for start in range(0, request.size, MAX_WRITE):
        size = min(MAX_WRITE, request.size - start)
        yield replace(request, offset=request.offset + start, size=size)


def _row_parts(request: m.SetTensor2D) -> Iterator[m.SetTensor2D]:
    rows = max(1, MAX_WRITE // max(1, request.size))
    for first in range(0, request.n_copies, rows):
        count = min(rows, request.n_copies - first)
        yield replace(
            request,
            offset=request.offset + first * request.stride,
            n_copies=count,
            data_size=count * request.size,
        )


def _timed(program: Program, device: Device) -> float:
    """Run a program and wait for its end; returns the seconds that it took."""
    start = time.perf_counter()
    program.run()
    device.synchronize()
    return time.perf_counter() - start
