"""The devices of a server, with the same interface as local devices.

All devices of a server share one connection and session. Handles, addresses and op
numbers are translated here. Some requests, such as GRAPH_COMPUTE, have no reply. If one
fails, the next call that waits for a reply raises the error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property

from ggrpc.closable import Closable
from ggrpc.devices.device import Buffer, Device, Memory, Placed, Program, no_checkpoint
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, new_uid
from ggrpc.engine.wire.commands import Command
from ggrpc.errors import (
    DeviceError,
    RefusedError,
    TransportError,
    UnsupportedOp,
)
from ggrpc.graph import Graph
from ggrpc.ops import Node
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

# Bytes; data is moved as a row of I8, and ne and nb have 32 bits on the wire.
MAX_AT_ONCE = 1 << 30


class RemoteBuffer(Buffer):
    """A buffer on a server; a view of it is a copy, which `write` sends at its end.

    Attributes:
        client: the session that it belongs to.
        handle: the number that identifies it on the server.
        base: the address of its first byte on the server.
        freed: whether it was freed.
    """

    def __init__(self, client: Client, handle: int, size: int) -> None:
        self.client = client
        self.handle = handle
        self.size = size
        self.base = client.base(handle)
        self.freed = False

    @contextmanager
    def read(self, offset: int, size: int) -> Iterator[memoryview]:
        """Yield a copy of bytes of the buffer."""
        view = memoryview(bytearray(size))
        self.get(offset, view)
        yield view

    @contextmanager
    def write(self, offset: int, size: int) -> Iterator[memoryview]:
        """Yield zeros to overwrite; they are sent when the block ends."""
        view = memoryview(bytearray(size))
        yield view
        self.put(offset, view)

    @contextmanager
    def update(self, offset: int, size: int) -> Iterator[memoryview]:
        """Yield a copy of bytes to change; it is sent when the block ends."""
        with self.read(offset, size) as view:
            yield view
        self.put(offset, view)

    def get(self, offset: int, into: memoryview) -> None:
        """Read bytes of the buffer into `into`."""
        for at, tensor in self._parts(offset, len(into)):
            self.client.get_tensor(tensor, into[at : at + tensor.ne[0]])

    def put(self, offset: int, data: memoryview) -> None:
        """Write bytes into the buffer."""
        for at, tensor in self._parts(offset, len(data)):
            self.client.set_tensor(tensor, data[at : at + tensor.ne[0]])

    def fill(self, offset: int, size: int, value: int) -> None:
        """Set bytes of the buffer to one value."""
        if (offset, size) == (0, self.size) and not self.freed:
            self.client.clear(self.handle, value)
        elif Command.MEMSET_TENSOR in self.client.dialect.commands:
            for _, tensor in self._parts(offset, size):
                self.client.memset_tensor(tensor, value, tensor.ne[0])
        else:
            self.put(offset, memoryview(bytes([value]) * size))

    def copy(self, offset: int, source: Buffer, source_offset: int, size: int) -> None:
        """Copy `size` bytes from another buffer, on the server if possible."""
        if not self._copy_there(offset, source, source_offset, size):
            with source.read(source_offset, size) as view:
                self.put(offset, view)

    def free(self) -> None:
        """Free the buffer; a second call does nothing."""
        if self.freed:
            return
        self.freed = True
        # If the session has ended, the server has freed the buffer.
        with suppress(TransportError, RefusedError):
            self.client.free(self.handle)

    def _copy_there(self, offset: int, source: Buffer, start: int, size: int) -> bool:
        """Let the server copy; returns False if it cannot."""
        if not isinstance(source, RemoteBuffer) or source.client is not self.client:
            return False
        if source is self and abs(offset - start) < size:
            return False  # servers use memcpy, which needs separate memory
        there = zip(source._parts(start, size), self._parts(offset, size), strict=True)
        return all(self.client.copy_tensor(a, b) for (_, a), (_, b) in there)

    def _parts(self, offset: int, size: int) -> Iterator[tuple[int, Tensor]]:
        """Tensors that cover the bytes, and the position of each one in them.

        Raises:
            DeviceError: the buffer was freed; a server would end the session.
        """
        if self.freed:
            raise DeviceError(
                f"a buffer on {self.client.endpoint} is used after it was freed",
                endpoint=str(self.client.endpoint),
            )
        for at in range(0, size, MAX_AT_ONCE):
            ne = (min(MAX_AT_ONCE, size - at), 1, 1, 1)
            nb = contiguous_nb(GGMLType.I8, ne)
            data = self.base + offset + at
            yield at, Tensor(1, GGMLType.I8, self.handle, ne, nb, data=data)


class RemoteProgram(Program):
    """A graph that a server runs.

    Args:
        device: the device that runs it.
        graph: the graph, encoded for that server.
        buffers: the buffers that it uses.
    """

    def __init__(
        self, device: RemoteDevice, graph: bytes, buffers: list[RemoteBuffer]
    ) -> None:
        self._device = device
        self._graph = graph
        self._buffers = buffers
        self._uid = new_uid()

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        """Send the graph, or GRAPH_RECOMPUTE if the server has it."""
        if any(buffer.freed for buffer in self._buffers):
            raise DeviceError("a buffer of the graph has been freed")
        self._device.client.run(self._graph, self._uid, self._device.number)


class RemoteDevice(Device):
    """One device of a server.

    Args:
        client: the session.
        number: the device's number on the server.

    Attributes:
        client: the session.
        number: the device's number on the server.
    """

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.number = number
        self.name = f"rpc://{client.endpoint}/{number}"
        self.description = (
            f"device {number} of {client.endpoint}, protocol {client.version}"
        )

    # These are asked on first use: a server may have many devices and answer slowly.

    @cached_property
    def alignment(self) -> int:  # type: ignore[override]
        """The alignment in bytes: addresses of tensors are multiples of it."""
        return self.client.alignment(self.number)

    @cached_property
    def max_size(self) -> int:  # type: ignore[override]
        """The size of the largest buffer, in bytes."""
        return self.client.max_size(self.number)

    def memory(self) -> Memory:
        """The free and total memory of the device, in bytes."""
        return self.client.memory(self.number)

    def allocate(self, size: int) -> RemoteBuffer:
        """Allocate a buffer of `size` bytes, all zero.

        Raises:
            OutOfMemory: the server cannot allocate that much.
        """
        # Some servers treat a size of 0 as a failure.
        handle = self.client.allocate(max(size, 1), self.number)
        self.client.clear(handle)
        return RemoteBuffer(self.client, handle, size)

    def alloc_size(self, tensor: Tensor) -> int:
        """The bytes to allocate for a tensor, including the device's padding.

        Raises:
            DeviceError: the server's version does not have the type.
        """
        # As in llama.cpp: devices pad quantized tensors only.
        if not tensor.type.is_quantized:
            return tensor.nbytes
        if not self.client.dialect.table.has_type(tensor.type):
            raise DeviceError(
                f"{self.name} speaks protocol {self.client.version}, which is older "
                f"than {tensor.type.name}: use a newer server",
                endpoint=str(self.client.endpoint),
            )
        return self.client.alloc_size(tensor, device=self.number)

    def synchronize(self) -> None:
        """Wait until the server has answered a request."""
        self.client.alignment(self.number)  # the cheapest request with a reply

    def supports(self, node: Node) -> bool:
        """Whether the device computes a node.

        Servers before protocol 7.0.1 cannot tell; their op table decides.
        """
        table = self.client.dialect.table
        types = {tensor.type for tensor in (node.tensor, *node.src) if tensor}
        if not all(map(table.has, node.operations)):
            return False
        if not all(map(table.has_type, types)):
            return False
        if Command.GET_DEVICE_SUPPORTS_OP not in self.client.dialect.commands:
            return True
        return self.client.supports(node.tensor, node.src, self.number)

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> RemoteProgram:
        """Encode a graph for the server.

        Raises:
            UnsupportedOp: the device does not compute a node.
        """
        for node in graph.nodes:
            if not self.supports(node):
                raise UnsupportedOp(
                    f"{node.tensor}: {self.name} does not compute {node.tensor.op.name}"
                )
        there = {h: _remote(placed.buffer) for h, placed in buffers.items()}
        tensors = [
            _moved(tensor, buffers[tensor.buffer].base, there[tensor.buffer])
            if tensor.buffer
            else tensor
            for tensor in graph.tensors.values()
        ]
        encoded = self.client.encode(Graph.of(tensors, graph.node_ids))
        return RemoteProgram(self, encoded, list(there.values()))


def _remote(buffer: Buffer) -> RemoteBuffer:
    assert isinstance(buffer, RemoteBuffer), "a device is given its own buffers"
    return buffer


def _moved(tensor: Tensor, base: int, buffer: RemoteBuffer) -> Tensor:
    return tensor._replace(buffer=buffer.handle, data=tensor.data - base + buffer.base)


class RemoteServer(Closable):
    """A session on a server, and its devices; a context manager.

    Threads may share it. After it is closed or cancelled, calls that wait for the
    server raise `Cancelled` in every thread.

    Args:
        client: the session.

    Attributes:
        client: the session.
        devices: the server's devices.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.devices = [RemoteDevice(client, n) for n in range(client.device_count())]
        if not self.devices:
            raise RefusedError(f"{client.endpoint} has no devices")

    @property
    def endpoint(self) -> Endpoint:
        """The address of the server."""
        return self.client.endpoint

    @property
    def version(self) -> str:
        """The protocol version that the server announces, such as `7.0.0`."""
        return str(self.client.version)

    def device(self, number: int = 0) -> RemoteDevice:
        """One of its devices.

        Raises:
            RefusedError: the server has no device of this number.
        """
        if not 0 <= number < len(self.devices):
            raise RefusedError(
                f"{self.endpoint} has no device {number}: 'ggrpc probe' lists them",
                endpoint=str(self.endpoint),
            )
        return self.devices[number]

    def close(self) -> None:
        """End the session; the server frees its buffers."""
        self.client.close()

    def cancel(self) -> None:
        """End the session at once, from any thread."""
        self.client.cancel()
