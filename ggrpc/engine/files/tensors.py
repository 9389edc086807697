"""The tensors in files of arrays: .npy, .npz, .safetensors and .gguf.

Their bytes are what a device takes, as they lie in the file, without a copy where the
format allows it. Files of one tensor's raw bytes are for `arrays.py`.
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

# Of safetensors' names for types, those that ggml has.
SAFETENSORS = {
    **{type.name: type for type in NUMPY if type in (GGMLType.F16, GGMLType.F32)},
    **{type.name: type for type in NUMPY if type.name in ("F64", "I8", "I16", "I32")},
    "I64": GGMLType.I64,
    "BF16": GGMLType.BF16,
}
MAX_HEADER = 100_000_000  # bytes; the format's own limit


class Loaded(NamedTuple):
    """A tensor of a file.

    Attributes:
        name: what the file calls it; the file's own name where there is but one.
        type: its type.
        ne: its dimensions, the fastest first.
        data: its bytes, contiguous.
    """

    name: str
    type: GGMLType
    ne: Dims
    data: memoryview


def tensors_in(path: Path) -> Iterator[Loaded]:
    """The tensors of a file, in its order.

    Raises:
        ConfigError: it is of no known kind, or has a tensor that ggml has no type for.
        FileError: it cannot be read, or is cut short.
    """
    kind = path.suffix.lower()
    read = READERS.get(kind)
    if read is None:
        raise ConfigError(
            f"{path} is of no known kind: use one of {', '.join(READERS)}"
        )
    try:
        yield from read(path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except GgrpcError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception as error:  # zip, zlib, JSON: anything may come of a rotten file
        raise FileError(f"{path} is no whole {kind} file: {error}") from None


def _npy(path: Path) -> Iterator[Loaded]:
    yield _of_array(path.stem, load(path))


def _npz(path: Path) -> Iterator[Loaded]:
    with path.open("rb") as file, NpzFile(file) as arrays:
        for name in arrays.files:
            yield _of_array(name, arrays[name])


def _of_array(name: str, array: np.ndarray[Any, Any] | bytes) -> Loaded:
    if isinstance(array, bytes):
        raise ValueError(f"{name} is no array")
    type = type_of(array)
    return Loaded(name, type, ne_of(array.shape), pack(array, type))


def _safetensors(path: Path) -> Iterator[Loaded]:
    """Eight bytes with the length of a JSON object, that object, and the data."""
    view = map_file(path)
    (length,) = struct.unpack_from("<Q", view)
    if length > min(MAX_HEADER, len(view) - 8):
        raise ValueError(f"a header of {length} bytes")
    header, data = json.loads(bytes(view[8 : 8 + length])), view[8 + length :]
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield _of_bytes(name, entry["dtype"], entry["shape"], data[start:end])


def _of_bytes(
    name: str, dtype: str, shape: Sequence[object], data: memoryview
) -> Loaded:
    dims = [n for n in shape if isinstance(n, int) and n >= 0]
    type = SAFETENSORS.get(dtype)
    if type is None:
        raise ConfigError(f"ggml has no type for {name}, which is {dtype}")
    if len(dims) != len(shape) or len(data) != math.prod(dims) * type.type_size:
        raise ValueError(f"{name} has {len(data)} bytes for a shape of {shape}")
    return Loaded(name, type, ne_of(dims), data)


def _gguf(path: Path) -> Iterator[Loaded]:
    stored, view = tensors_of(path), map_file(path)
    for tensor in stored:
        a, b, c, d = (*tensor.ne, 1, 1, 1, 1)[:4]
        data = view[tensor.at : tensor.at + tensor.size]
        yield Loaded(tensor.name, GGMLType[tensor.type], (a, b, c, d), data)


READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".gguf": _gguf,
}
