"""Reads an array in numpy's .npy format, in pieces.

Format: numpy's lib/format.py. numpy limits a header to some kilobytes. The size of the
array is compared with the bytes that follow before any of them is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from math import prod
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy

from ggrpc.engine.files.ranges import PIECE
from ggrpc.errors import ConfigError
from ggrpc.formats.codecs import DTYPES, Array
from ggrpc.formats.numpy_values import ne_of, pack, type_of
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType
from ggrpc.units import format_size

# Larger arrays in Fortran order are refused: they cannot be converted in pieces.
MAX_WHOLE = 256 << 20  # bytes

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

Open = Callable[[], AbstractContextManager[IO[bytes]]]


class InvalidFileError(Exception):
    """The file breaks a rule of its format, which the message names."""


class StoredArray(NamedTuple):
    """An array in a file.

    Attributes:
        shape: its shape.
        dtype: its dtype.
        by_columns: whether it is in Fortran order: the first axis is contiguous.
        at: the offset of its data in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_columns: bool
    at: int

    @property
    def type(self) -> GGMLType:
        """The ggml type for its dtype.

        Raises:
            ConfigError: ggml has no type for it.
        """
        return type_of(np.empty(0, self.dtype))

    @property
    def ne(self) -> Dims:
        """Its dimensions, the fastest first.

        Raises:
            ConfigError: it has more than 4 dimensions.
        """
        return ne_of(self.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def pieces(self, open: Open) -> Iterator[memoryview]:
        """The bytes of a contiguous tensor of its values, in pieces of PIECE bytes.

        Args:
            open: opens the file at its start.

        Raises:
            ConfigError: the array is in Fortran order and larger than MAX_WHOLE.
            InvalidFileError: the file ends early.
        """
        type = self.type
        with open() as file:
            _exactly(file, self.at)
            if self.by_columns:
                yield from self._whole(file, type)
            elif self.dtype == DTYPES[type]:
                for size in _sizes(self.nbytes):
                    yield memoryview(_exactly(file, size))
            else:
                for size in _sizes(self.nbytes):
                    array = np.frombuffer(_exactly(file, size), self.dtype)
                    yield pack(array, type)

    def _whole(self, file: IO[bytes], type: GGMLType) -> Iterator[memoryview]:
        if self.nbytes > MAX_WHOLE:
            raise ConfigError(
                f"an array in Fortran order has {format_size(self.nbytes)}, more than "
                f"{format_size(MAX_WHOLE)}: save it with numpy.ascontiguousarray"
            )
        array = np.frombuffer(_exactly(file, self.nbytes), self.dtype)
        data = pack(array.reshape(self.shape, order="F"), type)
        at = 0
        for size in _sizes(self.nbytes):
            yield data[at : at + size]
            at += size


def read_header(file: IO[bytes], size: int) -> StoredArray:
    """Read the header of an array.

    Args:
        file: the file, at its start.
        size: the size of the file in bytes.

    Raises:
        InvalidFileError: the file contains Python objects, or is too short for its
            array.
        ValueError: the file is not in numpy's format.
    """
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise InvalidFileError(f"format {version[0]}.{version[1]} is not supported")
    shape, by_columns, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise InvalidFileError("it contains Python objects, not numbers")
    several = sum(n > 1 for n in shape) > 1
    array = StoredArray(shape, dtype, by_columns and several, file.tell())
    if min(shape, default=0) < 0 or array.nbytes > size - array.at:
        raise InvalidFileError(
            f"an array of shape {list(shape)} does not fit into its {size} bytes"
        )
    return array


def read_array(file: IO[bytes], size: int) -> Array:
    """Read a whole array; the arguments and errors are those of `read_header`."""
    array = read_header(file, size)
    data = np.frombuffer(_exactly(file, array.nbytes), array.dtype)
    return data.reshape(array.shape, order="F" if array.by_columns else "C")


def _sizes(size: int) -> Iterator[int]:
    for at in range(0, size, PIECE):
        yield min(PIECE, size - at)


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise InvalidFileError(f"it ends {size - len(data)} bytes early")
    return data
