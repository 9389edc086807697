"""The layout of each message's payload.

A layout is a list of fields, `name:code`. A code is that of struct (I = u32, Q = u64,
B = u8), T for an rpc_tensor, S for the ten sources, C for the capabilities of HELLO, or
H for the host of COMM_INIT. A field marked ? is present only in the dialects that list
it. Every layout knows the size of its payload, so that a size is checked before memory
is allocated for it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.engine.wire.tensors import (
    TENSOR_BYTES,
    pack_tensors,
    unpack_tensor,
    unpack_tensors,
)
from ggrpc.errors import LocalProtocolError
from ggrpc.tensor import MAX_SRC, Tensor

CAPS_BYTES = 24  # RPC_CONN_CAPS_SIZE
HOST_BYTES = 64

REQUESTS: tuple[tuple[type[m.Request], str], ...] = (
    (m.AllocBuffer, "?device:I size:Q"),
    (m.GetAlignment, "?device:I"),
    (m.GetMaxSize, "?device:I"),
    (m.BufferGetBase, "remote_ptr:Q"),
    (m.FreeBuffer, "remote_ptr:Q"),
    (m.BufferClear, "remote_ptr:Q value:B"),
    (m.SetTensor, "tensor:T ?cache:B offset:Q"),  # and the data
    (m.SetTensor2D, "tensor:T offset:Q size:Q n_copies:Q stride:Q"),  # and the data
    (m.SetTensorHash, "tensor:T offset:Q hash:Q"),
    (m.GetTensor, "tensor:T offset:Q size:Q"),
    (m.GetTensor2D, "tensor:T offset:Q size:Q n_copies:Q stride:Q"),
    (m.CopyTensor, "src:T dst:T"),
    (m.GraphCompute, "?device:I ?uid:Q"),  # and the graph
    (m.GetDeviceMemory, "?device:I"),
    (m.InitTensor, "tensor:T"),
    (m.GetAllocSize, "?device:I tensor:T ?srcs:S"),
    (m.Hello, "?caps:C"),
    (m.DeviceCount, ""),
    (m.GraphRecompute, "?device:I ?uid:Q"),
    (m.MemsetTensor, "tensor:T offset:Q size:Q value:B"),
    (m.GetDeviceSupportsOp, "?device:I tensor:T ?srcs:S"),
    (m.CommInit, "?device:I rank:I world:I port:I host:H"),
    (m.CommAllreduce, "?device:I tensor:T"),
    (m.CommFree, "?device:I"),
)

REPLIES: dict[Command, tuple[type[m.Reply], str]] = {
    Command.ALLOC_BUFFER: (m.Allocated, "remote_ptr:Q remote_size:Q"),
    Command.GET_ALIGNMENT: (m.Alignment, "alignment:Q"),
    Command.GET_MAX_SIZE: (m.MaxSize, "max_size:Q"),
    Command.BUFFER_GET_BASE: (m.Base, "base_ptr:Q"),
    Command.SET_TENSOR_HASH: (m.Result, "result:B"),
    Command.GET_TENSOR: (m.TensorData, ""),  # and the data
    Command.GET_TENSOR_2D: (m.TensorData, ""),  # and the data
    Command.COPY_TENSOR: (m.Result, "result:B"),
    Command.GRAPH_COMPUTE: (m.Status, "status:B"),
    Command.GET_DEVICE_MEMORY: (m.DeviceMemory, "free:Q total:Q"),
    Command.GET_ALLOC_SIZE: (m.AllocSize, "alloc_size:Q"),
    Command.HELLO: (m.Welcome, "major:B minor:B patch:B ?padding:B ?caps:C"),
    Command.DEVICE_COUNT: (m.Count, "device_count:I"),
    Command.GET_DEVICE_SUPPORTS_OP: (m.Result, "result:B"),
    Command.COMM_INIT: (m.Result, "result:B"),
}

# The field that holds the rest of the payload.
TAILS: dict[type, str] = {
    m.SetTensor: "data",
    m.SetTensor2D: "data",
    m.TensorData: "data",
    m.GraphCompute: "graph",
}


# The maximum size of a tail in bytes. A tensor takes 296 bytes in a graph, and the
# largest graphs have some 100,000 of them. Data is limited by the size of its buffer.
MAX_TAIL = {"graph": 256 << 20, "data": 1 << 63}


# The number of decoded messages to keep for each layout. A client sends the same few
# messages for every token. Messages are immutable, so all sessions can share them.
MAX_DECODED = 256


@dataclass(frozen=True, slots=True)
class _Code:
    """The meaning of a field's code: its format, a translation, and its tensors."""

    format: str
    read: Callable[[bytes, OpTable], Any] | None = None
    write: Callable[[Any, OpTable, frozenset[str]], bytes] | None = None
    tensors: int = 0


def _write_tensor(tensor: Tensor, table: OpTable, optional: frozenset[str]) -> bytes:
    return pack_tensors([tensor], table, optional)


def _read_sources(raw: bytes, table: OpTable) -> tuple[Tensor | None, ...]:
    return tuple(t if t.id else None for t in unpack_tensors(raw, table).tensors)


def _write_sources(
    sources: tuple[Tensor | None, ...], table: OpTable, optional: frozenset[str]
) -> bytes:
    absent = bytes(TENSOR_BYTES)
    padded = (*sources, *(None,) * (MAX_SRC - len(sources)))
    return b"".join(pack_tensors([t], table, optional) if t else absent for t in padded)


_CODES = {
    "B": _Code("B"),
    "I": _Code("I"),
    "Q": _Code("Q"),
    "T": _Code(f"{TENSOR_BYTES}s", unpack_tensor, _write_tensor, tensors=1),
    "S": _Code(f"{MAX_SRC * TENSOR_BYTES}s", _read_sources, _write_sources, MAX_SRC),
    "C": _Code(f"{CAPS_BYTES}s"),
    "H": _Code(f"{HOST_BYTES}s"),
}


class Layout:
    """The layout of one message in one dialect.

    Attributes:
        message: the class of the message.
        size: the size of the fields in bytes; the whole payload if there is no tail.
        tail: the field that holds the rest of the payload, or None.
        max_size: the size of the largest payload in bytes.
        read: decodes the payload without its tail; takes the bytes, and the size of the
            whole payload. Raises RemoteProtocolError if a tensor is malformed.
    """

    def __init__(
        self, message: type, fields: str, optional: frozenset[str], table: OpTable
    ) -> None:
        present = [
            field.lstrip("?").split(":")
            for field in fields.split()
            if field[0] != "?" or field[1:].split(":")[0] in optional
        ]
        self.message = message
        self._names = [name for name, _ in present]
        self._codes = [_CODES[code] for _, code in present]
        self._translated = [i for i, code in enumerate(self._codes) if code.read]
        self._struct = struct.Struct("<" + "".join(c.format for c in self._codes))
        self._table = table
        self._optional = optional
        self.size = self._struct.size
        self.tail = TAILS.get(message)
        self.max_size = self.size + (MAX_TAIL[self.tail] if self.tail else 0)
        self.read = lru_cache(MAX_DECODED)(self._read)

    def holds(self, size: int) -> bool:
        """Whether `size` bytes are a valid size of the payload."""
        return self.size <= size <= self.max_size

    def tensor_bytes(self, size: int) -> float:
        """The bytes of each tensor in a payload of `size` bytes; 0 without tensors."""
        count = sum(code.tensors for code in self._codes)
        return TENSOR_BYTES + (size - self.size) / count if count else 0

    def fields(self, payload: bytes) -> dict[str, Any]:
        """Decode the fields by name.

        Raises:
            RemoteProtocolError: a tensor is malformed.
        """
        values: list[Any] = list(self._struct.unpack_from(payload))
        for at in self._translated:
            read = self._codes[at].read
            assert read is not None
            values[at] = read(values[at], self._table)
        return dict(zip(self._names, values, strict=True))

    def _read(self, payload: bytes, size: int) -> Any:
        """Decode a message whose payload, tail included, has `size` bytes."""
        name = "data_size" if "size" in self._names else "size"
        rest = {name: size - self.size} if self.tail else {}
        return self.message(**self.fields(payload), **rest)

    def write(self, message: m.Request | m.Reply) -> bytes:
        """Encode the fields, without the tail.

        Raises:
            LocalProtocolError: a value does not fit its field.
        """
        values = [getattr(message, name) for name in self._names]
        for at in self._translated:
            write = self._codes[at].write
            assert write is not None
            values[at] = write(values[at], self._table, self._optional)
        try:
            return self._struct.pack(*values)
        except struct.error as error:
            name = self.message.__name__
            raise LocalProtocolError(f"{name} cannot be sent: {error}") from None
