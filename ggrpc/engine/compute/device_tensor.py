"""A tensor of data in the memory of a device, to be written and read as an array."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.bounds import extent_of
from ggrpc.devices.device import Device
from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import Array
from ggrpc.formats.numpy_values import (
    described,
    ne_of,
    pack,
    type_named,
    type_of,
    unpack,
)
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

PIECE = 16 << 20  # bytes; few enough for a processor's cache, or nearly


class DeviceTensor:
    """A contiguous tensor in a buffer of its own; a context manager that frees it.

    Args:
        device: whose memory it takes.
        type: its type, or that type's name.
        ne: its dimensions, the fastest first, 1 to 4 of them.

    Attributes:
        device: whose memory it takes.
        buffer: where it lies, from the first byte on.
        tensor: its description.

    Raises:
        ConfigError: there is no such type.
        GraphError: rows cut through blocks.
        OutOfMemory: the device has not got the memory.
    """

    def __init__(self, device: Device, type: GGMLType | str, *ne: int) -> None:
        self.device = device
        self.tensor = described(type_named(type), ne_of(ne[::-1]))
        extent_of(self.tensor)
        size = max(device.alloc_size(self.tensor), self.tensor.nbytes)
        self.buffer = device.allocate(size)

    @classmethod
    def of(
        cls, device: Device, array: Array, type: GGMLType | str | None = None
    ) -> DeviceTensor:
        """Store an array.

        Args:
            device: whose memory it takes.
            array: the values; its shape is ne reversed.
            type: what they become; None for the type of the array's dtype.
        """
        array = np.asarray(array)
        kind = type_of(array) if type is None else type_named(type)
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
        """Its type."""
        return self.tensor.type

    @property
    def ne(self) -> Dims:
        """Its dimensions, the fastest first."""
        return self.tensor.ne

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return self.tensor.nbytes

    def set(self, array: Array) -> None:
        """Write values, converted to its type.

        Raises:
            ConfigError: the array has another number of elements.
        """
        array = np.asarray(array)
        if ne_of(array.shape) != self.ne:
            raise ConfigError(
                f"an array of shape {array.shape} is no {list(self.ne)}, which is "
                "numpy's order reversed"
            )
        self.set_bytes(pack(array, self.type))

    def set_bytes(self, data: memoryview | bytes) -> None:
        """Write its bytes as they are, such as blocks out of a model's file.

        Raises:
            ConfigError: there are more or fewer.
        """
        view = memoryview(data).cast("B")
        if len(view) != self.nbytes:
            raise ConfigError(f"{len(view)} bytes are no tensor of {self.nbytes}")
        self.buffer.put(0, view)

    def numpy(self) -> Array:
        """Its values, as a copy: float32 where numpy lacks the type."""
        return unpack(self.tensor, memoryview(self.bytes()))

    def pieces(self) -> Iterator[bytearray]:
        """Its bytes as they are, piece after piece; each may overwrite the last."""
        piece = bytearray(min(PIECE, self.nbytes))
        for at in range(0, self.nbytes, PIECE):
            left = self.nbytes - at
            if left < len(piece):
                piece = bytearray(left)
            self.buffer.get(at, memoryview(piece))
            yield piece

    def bytes(self) -> bytearray:
        """Its bytes as they are."""
        data = bytearray(self.nbytes)
        self.buffer.get(0, memoryview(data))
        return data

    def free(self) -> None:
        """Give the memory back; only once."""
        self.buffer.free()
