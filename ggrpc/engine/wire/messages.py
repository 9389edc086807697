"""What can be said: a request and, where it has one, a reply for each command.

A request's class is named after its command. Fields that a dialect does not carry have
their default: `device` is 0 where there is but one, `cache` False where the client
cannot ask for it. Addresses, offsets and sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggrpc.engine.wire.commands import Command
from ggrpc.tensor import Tensor

Bytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client sends."""

    command: ClassVar[Command]


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocBuffer(Request):
    """Take `size` bytes on a device."""

    command = Command.ALLOC_BUFFER
    device: int = 0
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GetAlignment(Request):
    """What must addresses of tensors be a multiple of?"""

    command = Command.GET_ALIGNMENT
    device: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GetMaxSize(Request):
    """How large can a buffer be?"""

    command = Command.GET_MAX_SIZE
    device: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferGetBase(Request):
    """At which address does a buffer begin?"""

    command = Command.BUFFER_GET_BASE
    remote_ptr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeBuffer(Request):
    """Give a buffer back."""

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
        cache: the client asks the server to keep the bytes by their hash.
        data: the bytes, to send; None in a request that was read, where they follow
            on the connection, to be taken straight into their place.
    """

    command = Command.SET_TENSOR
    tensor: Tensor
    cache: int = 0
    offset: int
    size: int
    data: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTensorHash(Request):
    """Write what the server keeps under this FNV-1a hash, if it does."""

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
class CopyTensor(Request):
    """Copy one tensor's bytes to another's place."""

    command = Command.COPY_TENSOR
    src: Tensor
    dst: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCompute(Request):
    """Run a graph.

    Attributes:
        graph: as it lies on the wire. `graphs.read_graph` decodes it: a server that
            has seen the same bytes before need not.
    """

    command = Command.GRAPH_COMPUTE
    device: int = 0
    graph: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GetDeviceMemory(Request):
    """How much memory has a device?"""

    command = Command.GET_DEVICE_MEMORY
    device: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InitTensor(Request):
    """Prepare a tensor whose rows the device may want to pad."""

    command = Command.INIT_TENSOR
    tensor: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class GetAllocSize(Request):
    """How many bytes must be set aside for a tensor?

    Attributes:
        srcs: its sources, None for absent ones; empty where the dialect has none.
    """

    command = Command.GET_ALLOC_SIZE
    device: int = 0
    tensor: Tensor
    srcs: tuple[Tensor | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Request):
    """The first request.

    Attributes:
        caps: 24 bytes of RDMA parameters from 4.0 on, all zero for TCP; before, empty.
    """

    command = Command.HELLO
    caps: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCount(Request):
    """How many devices are there?"""

    command = Command.DEVICE_COUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRecompute(Request):
    """Run the device's last graph again."""

    command = Command.GRAPH_RECOMPUTE
    device: int = 0


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
    """Does a device compute such a node?"""

    command = Command.GET_DEVICE_SUPPORTS_OP
    device: int = 0
    tensor: Tensor
    srcs: tuple[Tensor | None, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Reply):
    """Done, and nothing to tell. Empty, or not sent at all: the dialect says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated(Reply):
    """The handle and size of a new buffer; 0 and 0: it could not be had."""

    remote_ptr: int
    remote_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment(Reply):
    """What addresses of tensors must be a multiple of."""

    alignment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxSize(Reply):
    """The size of the largest buffer."""

    max_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Base(Reply):
    """The address at which a buffer begins."""

    base_ptr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Reply):
    """1: yes, done; 0: no."""

    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Reply):
    """How a graph went: 0, for a failure ends the connection."""

    status: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorData(Reply):
    """The bytes of a tensor.

    Attributes:
        data: the bytes, to send; None in a reply that was read, where they follow.
    """

    size: int
    data: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory(Reply):
    """Free and total bytes."""

    free: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocSize(Reply):
    """The bytes to set aside."""

    alloc_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Reply):
    """The answer to HELLO: the server's version."""

    major: int
    minor: int
    patch: int
    padding: int = 0
    caps: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(Reply):
    """How many devices there are."""

    device_count: int
