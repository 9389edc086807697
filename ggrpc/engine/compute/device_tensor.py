"""A tensor in the memory of a device, which is written and read as a numpy array."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.bounds import extent_of
from ggrpc.devices.device import Device
from ggrpc.engine.files.ranges import PIECE
from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import Array
from ggrpc.formats.numpy_values import (
    contiguous_tensor,
    ne_of,
    pack,
    parse_type,
    type_of,
    unpack,
)
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType


class DeviceTensor:
    """A contiguous tensor in its own buffer; a context manager that frees it.

    Args:
        device: the device that has the memory.
        type: the type of the tensor, or its name.
        ne: 1 to 4 dimensions, the fastest first.

    Attributes:
        device: the device that has the memory.
        buffer: the buffer; the tensor starts at offset 0.
        tensor: the description of the tensor.

    Raises:
        ConfigError: there is no such type.
        GraphError: a row is not a whole number of blocks.
        OutOfMemory: the device does not have enough free memory.
    """

    def __init__(self, device: Device, type: GGMLType | str, *ne: int) -> None:
        self.device = device
        self.tensor = contiguous_tensor(parse_type(type), ne_of(ne[::-1]))
        extent_of(self.tensor)
        size = max(device.alloc_size(self.tensor), self.tensor.nbytes)
        self.buffer = device.allocate(size)

    @classmethod
    def of(
        cls, device: Device, array: Array, type: GGMLType | str | None = None
    ) -> DeviceTensor:
        """Create a tensor with the values of an array.

        Args:
            device: the device for the memory.
            array: the values; the shape is `ne` reversed.
            type: the type of the tensor; None for the type of the array's dtype.

        Raises:
            ConfigError: there is no such type, or the array cannot be converted to it.
            OutOfMemory: the device does not have enough free memory.
        """
        array = np.asarray(array)
        kind = type_of(array) if type is None else parse_type(type)
        data = pack(array, kind)
        tensor = cls(device, kind, *ne_of(array.shape))
        tensor.set_bytes(data)
        return tensor

    def __enter__(self) -> DeviceTensor:
        return self

    def __exit__(self, *error: object) -> None:
        self.free()

    @property
    def type(self) -> GGMLType:
        """The type of the tensor."""
        return self.tensor.type

    @property
    def ne(self) -> Dims:
        """The dimensions, the fastest first."""
        return self.tensor.ne

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self.tensor.nbytes

    def set(self, array: Array) -> None:
        """Write an array, converted to the type of the tensor.

        Raises:
            ConfigError: the shape of the array is not `ne` reversed.
        """
        array = np.asarray(array)
        if ne_of(array.shape) != self.ne:
            raise ConfigError(
                f"an array of shape {array.shape} does not fit ne {list(self.ne)}, "
                "which is numpy's shape reversed"
            )
        self.set_bytes(pack(array, self.type))

    def set_bytes(self, data: memoryview | bytes) -> None:
        """Write raw bytes, such as the blocks of a quantized type.

        Raises:
            ConfigError: the number of bytes is not `nbytes`.
        """
        view = memoryview(data).cast("B")
        if len(view) != self.nbytes:
            raise ConfigError(
                f"the tensor has {self.nbytes} bytes, but its data has {len(view)}"
            )
        self.buffer.put(0, view)

    def numpy(self) -> Array:
        """A copy of the values.

        Returns:
            The shape is `ne` reversed, without leading ones. The dtype is numpy's for
            the type, or float32 if numpy does not have it.
        """
        return unpack(self.tensor, memoryview(self.bytes()))

    def pieces(self) -> Iterator[bytearray]:
        """Yield the raw bytes in pieces; the next piece may overwrite the last one."""
        piece = bytearray(min(PIECE, self.nbytes))
        for at in range(0, self.nbytes, PIECE):
            left = self.nbytes - at
            if left < len(piece):
                piece = bytearray(left)
            self.buffer.get(at, memoryview(piece))
            yield piece

    def bytes(self) -> bytearray:
        """A copy of the raw bytes."""
        data = bytearray(self.nbytes)
        self.buffer.get(0, memoryview(data))
        return data

    def free(self) -> None:
        """Free the buffer; call this once."""
        self.buffer.free()
