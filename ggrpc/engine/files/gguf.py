"""Reads the table of tensors in the header of a GGUF file.

The file may come from an untrusted source. Each count and length is therefore compared
with the bytes that are left in the file before anything is read or allocated; the
package `gguf` does not do that. Format: ggml's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import os
import struct
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ggrpc.engine.files.ranges import FileRange
from ggrpc.errors import FileError
from ggrpc.tensor import MAX_DIMS
from ggrpc.types import GGMLType

MAGIC = b"GGUF"
TYPES = {int(type): type for type in GGMLType}
VERSIONS = (2, 3)
ALIGNMENT = b"general.alignment"
DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 24

# Models have some thousand tensors, and up to a million strings in their vocabularies.
MAX_TENSORS = 1 << 16
MAX_VALUES = 1 << 21
MAX_NAME = 0xFFFF  # bytes
MAX_NESTING = 4  # of arrays in arrays

UINT32, STRING, ARRAY = 4, 8, 9
# The sizes of the other types of values: integers, floats and bool.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, UINT32: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

# The smallest size of each entry in bytes: with empty names and values of one byte.
MIN_TENSOR, MIN_PAIR, MIN_STRING, MIN_ARRAY = 24, 13, 8, 12

_HEADER = struct.Struct("<4sIQQ")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_ARRAY = struct.Struct("<IQ")
_PLACE = struct.Struct("<IQ")  # the type of a tensor, and its offset


class GgufTensor(NamedTuple):
    """An entry of the table of tensors.

    Attributes:
        name: the name of the tensor.
        type: the name of its ggml type.
        ne: its dimensions, the fastest first.
        offset: the offset of its first byte in the file.
        size: its size in bytes.
    """

    name: str
    type: str
    ne: tuple[int, ...]
    offset: int
    size: int

    def range(self, path: Path) -> FileRange:
        """The bytes of the tensor in its file."""
        return FileRange(path, self.offset, self.size)


def is_gguf(path: Path) -> bool:
    """Whether a file starts with the magic of GGUF; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def tensors_of(path: Path) -> list[GgufTensor]:
    """The tensors of a GGUF file, in the order of the file; reads only the header.

    Raises:
        FileError: the file cannot be read, is not a GGUF file, or is truncated.
    """
    try:
        with path.open("rb") as file:
            return _Reader(file).tensors()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    except _Invalid as error:
        raise FileError(
            f"{path} is not a valid GGUF ({error}); download it again"
        ) from None


class _Invalid(Exception):
    """The file breaks a rule of the format, which the message names."""


class _Reader:
    """Reads the header of a file from its start."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._left = self._size
        self._values = 0
        self._alignment = DEFAULT_ALIGNMENT

    def tensors(self) -> list[GgufTensor]:
        """Read the whole header."""
        magic, version, n_tensors, n_pairs = self._unpack(_HEADER)
        if magic != MAGIC:
            raise _Invalid("it does not start with GGUF")
        if version not in VERSIONS:
            raise _Invalid(f"it has version {version}, not 2 or 3")
        self._expect("tensors", n_tensors, MIN_TENSOR)
        self._expect("key-value pairs", n_pairs, MIN_PAIR)
        if n_tensors > MAX_TENSORS:
            raise _Invalid(f"it has {n_tensors} tensors, more than {MAX_TENSORS}")
        for _ in range(n_pairs):
            self._pair()
        tensors = [self._tensor() for _ in range(n_tensors)]
        header = self._size - self._left
        start = header + -header % self._alignment
        placed = [t._replace(offset=start + t.offset) for t in tensors]
        self._check(placed)
        return placed

    def _check(self, tensors: list[GgufTensor]) -> None:
        """Check that tensors have different names, do not overlap, and are complete."""
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise _Invalid("two tensors have the same name")
        end = 0
        for tensor in sorted(tensors, key=lambda tensor: tensor.offset):
            if tensor.offset < end and tensor.size:
                raise _Invalid(f"'{tensor.name}' overlaps another tensor")
            end = max(end, tensor.offset + tensor.size)
            if end > self._size:
                raise _Invalid(
                    f"it is truncated at {self._size} bytes: '{tensor.name}' ends at "
                    f"{end}"
                )

    def _pair(self) -> None:
        key = self._string()
        (type,) = self._unpack(_U32)
        if key == ALIGNMENT and type == UINT32:
            (self._alignment,) = self._unpack(_U32)
            if not 1 <= self._alignment <= MAX_ALIGNMENT:
                raise _Invalid(f"its alignment of {self._alignment} bytes is invalid")
        else:
            self._skip_value(type)

    def _skip_value(self, type: int, nesting: int = 0) -> None:
        self._count(1)
        if type in SIZES:
            self._skip(SIZES[type])
        elif type == STRING:
            self._skip_string()
        elif type == ARRAY and nesting < MAX_NESTING:
            self._skip_array(nesting)
        elif type == ARRAY:
            raise _Invalid("arrays are nested too deeply")
        else:
            raise _Invalid(f"a value has the unknown type {type}")

    def _skip_array(self, nesting: int) -> None:
        type, count = self._unpack(_ARRAY)
        size = SIZES.get(type, MIN_STRING if type == STRING else MIN_ARRAY)
        self._expect("values of an array", count, size)
        if type in SIZES:
            self._skip(count * size)
        elif type == STRING:
            self._count(count)
            for _ in range(count):
                self._skip_string()
        else:
            self._count(count)
            for _ in range(count):
                self._skip_value(type, nesting + 1)

    def _tensor(self) -> GgufTensor:
        name = self._name()
        (n_dims,) = self._unpack(_U32)
        if n_dims > MAX_DIMS:
            raise _Invalid(f"'{name}' has {n_dims} dimensions, more than {MAX_DIMS}")
        ne = tuple(self._unpack(_U64)[0] for _ in range(n_dims))
        number, offset = self._unpack(_PLACE)
        type = TYPES.get(number)
        if type is None:
            raise _Invalid(f"'{name}' has the unknown type {number}")
        row = ne[0] if ne else 1
        if row % type.blck_size:
            raise _Invalid(f"rows of '{name}' are not whole blocks of {type.name}")
        size = type.row_size(row) * prod(ne[1:])
        return GgufTensor(name, type.name, ne, offset, size)

    def _name(self) -> str:
        try:
            return self._string().decode()
        except UnicodeDecodeError:
            raise _Invalid("the name of a tensor is not UTF-8") from None

    def _string(self) -> bytes:
        (size,) = self._unpack(_U64)
        if size > MAX_NAME:
            raise _Invalid(f"a name has {size} bytes, more than {MAX_NAME}")
        return self._read(size)

    def _skip_string(self) -> None:
        (size,) = self._unpack(_U64)
        self._skip(size)

    def _unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self._read(layout.size))

    def _read(self, size: int) -> bytes:
        self._take(size)
        data = self._file.read(size)
        if len(data) < size:
            raise _Invalid("it became shorter while it was read")
        return data

    def _skip(self, size: int) -> None:
        self._take(size)
        self._file.seek(size, os.SEEK_CUR)

    def _take(self, size: int) -> None:
        if size > self._left:
            raise _Invalid("it ends in its header")
        self._left -= size

    def _expect(self, what: str, count: int, least: int) -> None:
        """Check that `count` entries of at least `least` bytes fit into the rest."""
        if count * least > self._left:
            raise _Invalid(f"{count} {what} do not fit into its {self._size} bytes")

    def _count(self, count: int) -> None:
        self._values += count
        if self._values > MAX_VALUES:
            raise _Invalid(f"its header has more than {MAX_VALUES} values")
