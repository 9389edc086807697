"""The messages of the protocol: the request and the reply of each command.

A request's class is named after its command. A field that a dialect lacks keeps its
default: `device` is 0 in versions with one device, and `cache` is 0 in versions without
it. Addresses, offsets and sizes are in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggrpc.engine.wire.commands import Command
from ggrpc.tensor import Tensor

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A message from the client."""

    command: ClassVar[Command]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocBuffer(Request):
    """Allocate a buffer of `size` bytes on a device."""

    command = Command.ALLOC_BUFFER
    device: int = 0
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetAlignment(Request):
    """Ask for the alignment of tensor addresses."""

    command = Command.GET_ALIGNMENT
    device: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetMaxSize(Request):
    """Ask for the size of the largest buffer."""

    command = Command.GET_MAX_SIZE
    device: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferGetBase(Request):
    """Ask for the base address of a buffer."""

    command = Command.BUFFER_GET_BASE
    remote_ptr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeBuffer(Request):
    """Free a buffer."""

    command = Command.FREE_BUFFER
    remote_ptr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferClear(Request):
    """Set all bytes of a buffer to `value`."""

    command = Command.BUFFER_CLEAR
    remote_ptr: int
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTensor(Request):
    """Write `size` bytes at `offset` in a tensor.

    Attributes:
        cache: whether the client asks the server to cache the data by its hash.
        data: the bytes to send; None if they are sent after the request, and in a
            decoded request, whose data follows on the connection and is received
            straight into its destination.
    """

    command = Command.SET_TENSOR
    tensor: Tensor
    cache: int = 0
    offset: int
    size: int
    data: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTensor2D(Request):
    """Write rows of a tensor; row i is at `offset` + i * `stride`.

    Attributes:
        size: the bytes of one row.
        n_copies: the number of rows.
        data_size: the bytes of all rows, which are packed in the request.
        data: as in SetTensor.
    """

    command = Command.SET_TENSOR_2D
    tensor: Tensor
    offset: int
    size: int
    n_copies: int
    stride: int
    data_size: int
    data: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTensorHash(Request):
    """Write the data that the server has cached under an FNV-1a hash, if any."""

    command = Command.SET_TENSOR_HASH
    tensor: Tensor
    offset: int
    hash: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTensor(Request):
    """Read `size` bytes at `offset` in a tensor."""

    command = Command.GET_TENSOR
    tensor: Tensor
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetTensor2D(Request):
    """Read rows of a tensor, packed; row i is at `offset` + i * `stride`.

    Attributes:
        size: the bytes of one row.
        n_copies: the number of rows.
    """

    command = Command.GET_TENSOR_2D
    tensor: Tensor
    offset: int
    size: int
    n_copies: int
    stride: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyTensor(Request):
    """Copy the bytes of one tensor to another."""

    command = Command.COPY_TENSOR
    src: Tensor
    dst: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCompute(Request):
    """Run a graph.

    Attributes:
        uid: the number under which the server keeps the graph for GRAPH_RECOMPUTE; 0 if
            it need not keep it. None in versions without uids, where a device keeps its
            last graph.
        graph: the encoded graph. `graphs.read_graph` decodes it; a server need not
            decode the same bytes twice.
    """

    command = Command.GRAPH_COMPUTE
    device: int = 0
    uid: int | None = None
    graph: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDeviceMemory(Request):
    """Ask for the free and total memory of a device."""

    command = Command.GET_DEVICE_MEMORY
    device: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InitTensor(Request):
    """Prepare a tensor whose rows the device may pad."""

    command = Command.INIT_TENSOR
    tensor: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GetAllocSize(Request):
    """Ask how many bytes to allocate for a tensor.

    Attributes:
        srcs: the sources, None for absent ones; empty in dialects without them.
    """

    command = Command.GET_ALLOC_SIZE
    device: int = 0
    tensor: Tensor
    srcs: tuple[Tensor | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Request):
    """The first request.

    Attributes:
        caps: 24 bytes of RDMA parameters, all zero for TCP; empty before 4.0.
    """

    command = Command.HELLO
    caps: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCount(Request):
    """Ask for the number of devices."""

    command = Command.DEVICE_COUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRecompute(Request):
    """Run a graph of a device again: the one with this uid, or else the last one."""

    command = Command.GRAPH_RECOMPUTE
    device: int = 0
    uid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemsetTensor(Request):
    """Set `size` bytes at `offset` in a tensor to `value`."""

    command = Command.MEMSET_TENSOR
    tensor: Tensor
    offset: int
    size: int
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDeviceSupportsOp(Request):
    """Ask whether a device can compute a node with this result and these sources."""

    command = Command.GET_DEVICE_SUPPORTS_OP
    device: int = 0
    tensor: Tensor
    srcs: tuple[Tensor | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CommInit(Request):
    """Link a device with the device of another server, for COMM_ALLREDUCE.

    Attributes:
        rank: 0 for the server that listens, 1 for the one that connects to it.
        world: the number of servers, 2.
        port: the port of the link, on rank 0's host.
        host: 64 bytes, the name of rank 0's host up to the first zero.
    """

    command = Command.COMM_INIT
    device: int
    rank: int
    world: int
    port: int
    host: bytes = b""

    @property
    def host_name(self) -> str:
        """The name of rank 0's host; bytes that are not ASCII are escaped."""
        return self.host.split(b"\0")[0].decode("ascii", "backslashreplace")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommAllreduce(Request):
    """Add up the tensors of two linked devices, in place on both."""

    command = Command.COMM_ALLREDUCE
    device: int
    tensor: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class CommFree(Request):
    """Close the link of a device, if it has one."""

    command = Command.COMM_FREE
    device: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A message from the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Reply):
    """An empty reply; in some dialects it is not sent at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated(Reply):
    """The handle and size of a new buffer; both 0 if the allocation failed."""

    remote_ptr: int
    remote_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment(Reply):
    """The alignment of tensor addresses."""

    alignment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxSize(Reply):
    """The size of the largest buffer."""

    max_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Base(Reply):
    """The base address of a buffer."""

    base_ptr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Reply):
    """1 for yes or done, 0 for no."""

    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Reply):
    """The result of a graph: always 0, since a failure ends the connection."""

    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorData(Reply):
    """The bytes of a tensor.

    Attributes:
        data: the bytes to send; None in a decoded reply, whose data follows.
    """

    size: int
    data: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory(Reply):
    """The free and total memory of a device."""

    free: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocSize(Reply):
    """The number of bytes to allocate for a tensor."""

    alloc_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Reply):
    """The answer to HELLO: the server's version.

    Attributes:
        padding: None if the answer has only three bytes.
        caps: the parameters for RDMA, if the version has them.
    """

    major: int
    minor: int
    patch: int
    padding: int | None = None
    caps: bytes = b""

    @property
    def size(self) -> int:
        """The size of the answer in bytes."""
        return 3 + (self.padding is not None) + len(self.caps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(Reply):
    """The number of devices."""

    device_count: int
