"""The interface of every device: buffers that hold tensors, and compiled graphs.

The engine uses this interface and does not depend on a kind of device. Graphs are
validated before they are passed to a device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from ggrpc.bounds import Region
from ggrpc.closable import Closable
from ggrpc.devices.block_hash import BlockHash
from ggrpc.devices.profile import Profile
from ggrpc.graph import Graph
from ggrpc.ops import Node
from ggrpc.tensor import Tensor


class Memory(NamedTuple):
    """The memory of a device, in bytes."""

    free: int
    total: int

    def within(self, limit: int) -> Memory:
        """The memory, if no more than `limit` bytes of it may be used."""
        return Memory(min(self.free, limit), min(self.total, limit))


class Buffer(ABC):
    """A block of device memory.

    Offsets and sizes are in bytes. Callers have checked them.

    Attributes:
        size: the size in bytes.
    """

    size: int

    @abstractmethod
    def read(self, offset: int, size: int) -> AbstractContextManager[memoryview]:
        """Map bytes for the host to read, without a copy if the device allows that."""

    @abstractmethod
    def write(self, offset: int, size: int) -> AbstractContextManager[memoryview]:
        """Map bytes for the host to write; they take effect when the context ends.

        The host must write all of them: those that it omits become undefined.
        """

    @abstractmethod
    def update(self, offset: int, size: int) -> AbstractContextManager[memoryview]:
        """Like `write`, but bytes that the host does not write are unchanged."""

    def get(self, offset: int, into: memoryview) -> None:
        """Copy bytes to the host until `into` is full."""
        with self.read(offset, len(into)) as view:
            into[:] = view

    def put(self, offset: int, data: memoryview) -> None:
        """Copy bytes from the host; `data` must have the format `B`."""
        with self.write(offset, len(data)) as view:
            view[:] = data

    @abstractmethod
    def fill(self, offset: int, size: int, value: int) -> None:
        """Set a range of bytes to one value (0 to 255)."""

    @abstractmethod
    def copy(self, offset: int, source: Buffer, source_offset: int, size: int) -> None:
        """Copy bytes from a buffer of any device; the two ranges may overlap."""

    @abstractmethod
    def free(self) -> None:
        """Release the memory; call this once."""


class Placed(NamedTuple):
    """A buffer, and the address of its first byte in a graph."""

    base: int
    buffer: Buffer

    @property
    def region(self) -> Region:
        """The range of addresses that the buffer covers."""
        return Region(self.base, self.buffer.size)


def no_checkpoint() -> None:
    """The checkpoint of a program that has its device to itself."""


class Program(ABC):
    """A compiled graph."""

    @abstractmethod
    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        """Compute every node, in order.

        A remote device may return before the work is done: see `Device.synchronize`.

        Args:
            checkpoint: called between nodes. It may let another program use the
                device first, or raise to cancel this one.

        Raises:
            GraphError: an op read an index that is out of range.
            DeviceError: the device failed.
        """

    def run_timed(
        self, profile: Profile, checkpoint: Callable[[], None] = no_checkpoint
    ) -> None:
        """Compute every node and add the time to a profile; slower than `run`.

        By default the whole graph is one row. A device can override this to report
        each kind of work.
        """
        with profile.run(), profile.timing("graph"):
            self.run(checkpoint)


class Device(Closable):
    """A device that computes graphs; a context manager that closes it.

    The caller that opens a device owns it, and must close it.

    Attributes:
        name: the name on the command line, such as `cpu` or `opencl:0`.
        description: the manufacturer and model.
        alignment: tensor addresses must be a multiple of this many bytes.
        max_size: the size of the largest buffer, in bytes.
    """

    name: str
    description: str
    alignment: int
    max_size: int

    def close(self) -> None:
        """Release threads and memory. No program may run during or after this."""

    @abstractmethod
    def memory(self) -> Memory:
        """The current free memory and the total memory."""

    @abstractmethod
    def allocate(self, size: int) -> Buffer:
        """Allocate a buffer of `size` bytes, all zero.

        Raises:
            OutOfMemory: the device does not have enough free memory.
        """

    def alloc_size(self, tensor: Tensor) -> int:
        """The bytes to allocate for a tensor, including the device's padding."""
        return tensor.nbytes

    def warm_up(self, stopped: Callable[[], bool], busy: Callable[[], bool]) -> None:
        """Prepare for the graphs of common models, while there are no sessions.

        Args:
            stopped: whether to return soon.
            busy: whether there are sessions.

        Raises:
            GgrpcError: the device failed.
        """

    def synchronize(self) -> None:
        """Wait until all work submitted so far is done.

        Raises:
            GgrpcError: some of the work failed.
        """

    def block_hash(self) -> BlockHash | None:
        """A hasher that uses the device, for one thread; None if it is not faster.

        Raises:
            DeviceError: the device cannot be used.
        """
        return None

    @abstractmethod
    def supports(self, node: Node) -> bool:
        """Whether the device computes a node of this op and these types."""

    @abstractmethod
    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:
        """Compile a validated graph.

        Args:
            graph: the graph to compute.
            buffers: the session's buffers on this device, by handle.

        Raises:
            UnsupportedOp: the device has no kernel for a node; the message names it.
        """


def place_of(tensor: Tensor, buffers: Mapping[int, Placed]) -> tuple[Buffer, int]:
    """The buffer that holds a tensor, and the offset of the tensor in it."""
    base, buffer = buffers[tensor.buffer]
    return buffer, tensor.data - base
