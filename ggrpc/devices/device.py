"""The interface of every device: memory to put tensors in, and programs out of graphs.

The engine knows this file and no kind of device. Graphs that get here are validated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

from ggrpc.bounds import Region
from ggrpc.devices.block_hash import BlockHash
from ggrpc.devices.profile import Profile
from ggrpc.graph import Graph
from ggrpc.ops import Node
from ggrpc.tensor import Tensor


class Memory(NamedTuple):
    """Bytes of a device's memory."""

    free: int
    total: int


class Buffer(ABC):
    """A piece of a device's memory. Offsets and sizes are bytes, already checked."""

    size: int

    @abstractmethod
    def read(self, offset: int, size: int) -> AbstractContextManager[memoryview]:
        """Show bytes to the host, without a copy where the device allows it."""

    @abstractmethod
    def write(self, offset: int, size: int) -> AbstractContextManager[memoryview]:
        """Let the host write bytes; they are the device's when the context ends."""

    def get(self, offset: int, into: memoryview) -> None:
        """Copy bytes to the host, as many as `into` has."""
        with self.read(offset, len(into)) as view:
            into[:] = view

    def put(self, offset: int, data: memoryview) -> None:
        """Copy bytes from the host; `data` is of single bytes."""
        with self.write(offset, len(data)) as view:
            view[:] = data

    @abstractmethod
    def fill(self, offset: int, size: int, value: int) -> None:
        """Set bytes to one value (0 to 255)."""

    @abstractmethod
    def copy(self, offset: int, source: Buffer, source_offset: int, size: int) -> None:
        """Copy bytes out of a buffer of any device; they may overlap."""

    @abstractmethod
    def free(self) -> None:
        """Give the memory back; only once."""


class Placed(NamedTuple):
    """A buffer and the address that its first byte has in a graph."""

    base: int
    buffer: Buffer

    @property
    def region(self) -> Region:
        """Its addresses."""
        return Region(self.base, self.buffer.size)


def no_checkpoint() -> None:
    """The checkpoint of a program that shares its device with no other."""


class Program(ABC):
    """A graph made ready to run."""

    @abstractmethod
    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        """Compute every node, in order.

        A device that is far away may return before it is done: see
        `Device.synchronize`.

        Args:
            checkpoint: called between nodes; it may let another program use the
                device first, or raise to cancel this one.

        Raises:
            GraphError: an index that an op read is out of range.
            DeviceError: the device failed.
        """

    def run_timed(
        self, profile: Profile, checkpoint: Callable[[], None] = no_checkpoint
    ) -> None:
        """The same, and tell a profile where the time goes; slower.

        Here it goes into one row: a device that knows more of its work says more.
        """
        with profile.run(), profile.timing("graph"):
            self.run(checkpoint)


class Device(ABC):
    """Something that computes graphs.

    Attributes:
        name: what an operator calls it, such as `cpu` or `opencl:0`.
        description: what it is.
        alignment: bytes that addresses of tensors must be a multiple of.
        max_size: bytes of the largest buffer.
    """

    name: str
    description: str
    alignment: int
    max_size: int

    @abstractmethod
    def memory(self) -> Memory:
        """Free and total memory, as of now."""

    @abstractmethod
    def allocate(self, size: int) -> Buffer:
        """Take memory, all zeros.

        Raises:
            OutOfMemory: there is not that much.
        """

    def alloc_size(self, tensor: Tensor) -> int:
        """Bytes to set aside for a tensor, with what the device adds to its own."""
        return tensor.nbytes

    def synchronize(self) -> None:  # noqa: B027  most devices are done at once
        """Wait until all that it was told is done.

        Raises:
            GgrpcError: something of it failed.
        """

    def block_hash(self) -> BlockHash | None:
        """What hashes blocks of bytes for a thread; None where it is no faster.

        Raises:
            DeviceError: it cannot be used.
        """
        return None

    @abstractmethod
    def supports(self, node: Node) -> bool:
        """Whether it computes a node of this op and these types."""

    @abstractmethod
    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:
        """Make a validated graph ready to run.

        Args:
            graph: what to compute.
            buffers: the session's buffers by handle, all of this device.

        Raises:
            UnsupportedOp: it has no kernel for a node; the message names it.
        """


def place_of(tensor: Tensor, buffers: Mapping[int, Placed]) -> tuple[Buffer, int]:
    """The buffer that holds a tensor, and the offset of its first byte there."""
    base, buffer = buffers[tensor.buffer]
    return buffer, tensor.data - base
