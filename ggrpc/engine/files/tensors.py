"""Tensors in .npy, .npz, .safetensors and .gguf files.

The data is a view of the file, without a copy, if the format allows it. Files of raw
bytes are read by `arrays.py`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile

from ggrpc.engine.files.arrays import load
from ggrpc.engine.files.gguf import map_file, tensors_of
from ggrpc.errors import ConfigError, FileError, GgrpcError
from ggrpc.formats.numpy_values import NUMPY, ne_of, pack, type_of
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

# The types of safetensors that ggml has, by the name that safetensors uses.
SAFETENSORS = {
    **{type.name: type for type in NUMPY if type in (GGMLType.F16, GGMLType.F32)},
    **{type.name: type for type in NUMPY if type.name in ("F64", "I8", "I16", "I32")},
    "I64": GGMLType.I64,
    "BF16": GGMLType.BF16,
}
MAX_HEADER = 100_000_000  # bytes; the limit of the format


class FileTensor(NamedTuple):
    """A tensor in a file.

    Attributes:
        name: its name in the file; for .npy the name of the file.
        type: its type.
        ne: its dimensions, the fastest first.
        data: its bytes, contiguous.
    """

    name: str
    type: GGMLType
    ne: Dims
    data: memoryview


class _InvalidFileError(Exception):
    """The file breaks a rule of its format."""


def read_tensors(path: Path) -> Iterator[FileTensor]:
    """The tensors of a file, in the order of the file.

    Raises:
        ConfigError: the suffix is unknown, or ggml lacks the type of a tensor.
        FileError: the file cannot be read, or is damaged.
    """
    kind = path.suffix.lower()
    read = READERS.get(kind)
    if read is None:
        raise ConfigError(
            f"{path} has an unknown suffix: use one of {', '.join(READERS)}"
        )
    try:
        yield from read(path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except GgrpcError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except _InvalidFileError as error:
        raise FileError(f"{path} is not a valid {kind} file: {error}") from None
    except Exception as error:  # numpy, zlib and JSON raise anything on a damaged file
        raise FileError(
            f"{path} is not a valid {kind} file: it is damaged, or of another format"
        ) from error


def _npy(path: Path) -> Iterator[FileTensor]:
    yield _of_array(path.stem, load(path))


def _npz(path: Path) -> Iterator[FileTensor]:
    with path.open("rb") as file, NpzFile(file) as arrays:
        for name in arrays.files:
            yield _of_array(name, arrays[name])


def _of_array(name: str, array: np.ndarray[Any, Any] | bytes) -> FileTensor:
    if isinstance(array, bytes):
        raise _InvalidFileError(f"{name} is not an array")
    type = type_of(array)
    return FileTensor(name, type, ne_of(array.shape), pack(array, type))


def _safetensors(path: Path) -> Iterator[FileTensor]:
    """Read 8 bytes with the length of a JSON header, the header, and the data."""
    view = map_file(path)
    (length,) = struct.unpack_from("<Q", view)
    if length > min(MAX_HEADER, len(view) - 8):
        raise _InvalidFileError(f"the header is too long: {length} bytes")
    header, data = json.loads(bytes(view[8 : 8 + length])), view[8 + length :]
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield _of_bytes(name, entry["dtype"], entry["shape"], data[start:end])


def _of_bytes(
    name: str, dtype: str, shape: Sequence[object], data: memoryview
) -> FileTensor:
    dims = [n for n in shape if isinstance(n, int) and n >= 0]
    type = SAFETENSORS.get(dtype)
    if type is None:
        raise ConfigError(f"ggml has no type for {name}, which has type {dtype}")
    if len(dims) != len(shape) or len(data) != math.prod(dims) * type.type_size:
        raise _InvalidFileError(
            f"{name} has {len(data)} bytes, not those of shape {shape}"
        )
    return FileTensor(name, type, ne_of(dims), data)


def _gguf(path: Path) -> Iterator[FileTensor]:
    tensors, view = tensors_of(path), map_file(path)
    for tensor in tensors:
        a, b, c, d = (*tensor.ne, 1, 1, 1, 1)[:4]
        data = view[tensor.offset : tensor.offset + tensor.size]
        yield FileTensor(tensor.name, GGMLType[tensor.type], (a, b, c, d), data)


READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".gguf": _gguf,
}
