"""What a recorded connection has on the target: its buffers and its graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from ggrpc.devices.device import Buffer, Device, Placed, Program
from ggrpc.engine.recording.snapshot import RepeatableProgram
from ggrpc.engine.server.graph_reader import GraphReader
from ggrpc.engine.server.program_cache import ProgramCache
from ggrpc.engine.wire.dialects import Dialect
from ggrpc.errors import RecordingError
from ggrpc.graph import Graph
from ggrpc.tensor import Tensor

AT_ONCE = 16 << 20  # bytes that are written to a target in one go


class ReplaySession:
    """The counterpart of one connection.

    Args:
        dialect: the version that was spoken on it.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._graphs = GraphReader(dialect.tables)
        self._placed: dict[int, Placed] = {}  # by the handle that was recorded
        self._devices: dict[int, Device] = {}  # the same
        self._programs = ProgramCache()
        self._last: dict[int, tuple[bytes, Graph]] = {}  # by the number of the device

    def allocate(self, device: Device, handle: int, size: int) -> None:
        """Take what the recording calls by a handle."""
        self._placed[handle] = Placed(handle, device.allocate(size))
        self._devices[handle] = device

    def based(self, handle: int, base: int) -> None:
        """Say at which address a buffer was in the recording."""
        self._placed[handle] = self._known(handle)._replace(base=base)

    def buffer(self, handle: int) -> Buffer:
        """A buffer.

        Raises:
            RecordingError: there is none.
        """
        return self._known(handle).buffer

    def place(self, tensor: Tensor, offset: int, size: int) -> tuple[Buffer, int]:
        """Where bytes of a tensor are.

        Raises:
            RecordingError: they are in no buffer.
        """
        base, buffer = self._known(tensor.buffer)
        at = tensor.data - base + offset
        if at < 0 or size < 0 or at + size > buffer.size:
            raise RecordingError(
                f"{tensor}: bytes {at} to {at + size} do not lie inside its buffer of "
                f"{buffer.size}"
            )
        return buffer, at

    def release(self, handle: int) -> None:
        """Free one buffer, and the programs, which hold on to it."""
        self._programs.clear()
        self._known(handle).buffer.free()
        del self._placed[handle], self._devices[handle]

    def free(self) -> None:
        """Free all buffers."""
        for handle in list(self._placed):
            self.release(handle)

    def program(self, device: Device, number: int, payload: bytes) -> RepeatableProgram:
        """A graph made ready for a device, which the recording calls by a number."""
        placed = {
            handle: there
            for handle, there in self._placed.items()
            if self._devices[handle] is device
        }

        def compile(device: Device, payload: bytes) -> Program:
            regions = {handle: there.region for handle, there in placed.items()}
            graph = self._graphs.read(payload, regions)
            return RepeatableProgram(device.compile(graph, placed), graph, placed)

        program = cast(RepeatableProgram, self._programs.get(device, payload, compile))
        self._last[number] = payload, program.graph
        return program

    def last(self, device: Device, number: int) -> RepeatableProgram:
        """The graph that a device was sent last.

        Made ready again where a buffer was freed since: before protocol 7.0 a server
        remembers its graphs nevertheless.

        Raises:
            RecordingError: there is none.
        """
        if number not in self._last:
            raise RecordingError("the graph to compute again is not in the recording")
        return self.program(device, number, self._last[number][0])

    def named(self, tensor: Tensor, size: int) -> Tensor:
        """What is at a tensor's place according to the graphs, where it has no name.

        ggrpc's own client reads and writes plain bytes.
        """
        if tensor.name:
            return tensor
        for _, graph in self._last.values():
            for other in reversed(graph.computed):
                if (other.data, other.nbytes) == (tensor.data, size):
                    return other
        return tensor

    def _known(self, handle: int) -> Placed:
        placed = self._placed.get(handle)
        if placed is None:
            raise RecordingError(
                f"buffer {handle:#x} was not allocated in the recording; it must begin "
                "before the client does"
            )
        return placed


def write(buffer: Buffer, at: int, pieces: Iterator[bytes | memoryview]) -> None:
    """Write pieces one after the other, in larger ones."""
    batch: list[bytes | memoryview] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= AT_ONCE:
            _write_batch(buffer, at, batch, size)
            at, batch, size = at + size, [], 0
    _write_batch(buffer, at, batch, size)


def _write_batch(
    buffer: Buffer, at: int, batch: list[bytes | memoryview], size: int
) -> None:
    if not size:
        return
    with buffer.write(at, size) as view:
        start = 0
        for piece in batch:
            view[start : start + len(piece)] = piece
            start += len(piece)
