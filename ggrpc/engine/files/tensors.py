"""Reads the tensors of .npy, .npz, .safetensors and .gguf files.

The files may come from an untrusted source. The sizes in a header are therefore
compared with the size of the file first, and data is read in pieces. Files of raw bytes
are read by `single_tensor.py`.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from ggrpc.engine.files.gguf import tensors_of
from ggrpc.engine.files.npy import InvalidFileError, StoredArray, read_header
from ggrpc.engine.files.ranges import FileRange
from ggrpc.errors import ConfigError, FileError, GgrpcError
from ggrpc.formats.numpy_values import NUMPY, ne_of
from ggrpc.tensor import Dims
from ggrpc.types import GGMLType

# The types of safetensors that ggml has, by the name that safetensors uses.
SAFETENSORS = {
    **{type.name: type for type in NUMPY if type in (GGMLType.F16, GGMLType.F32)},
    **{type.name: type for type in NUMPY if type.name in ("F64", "I8", "I16", "I32")},
    "I64": GGMLType.I64,
    "BF16": GGMLType.BF16,
}
MAX_HEADER = 8 << 20  # bytes; the header of a large model has 1 MiB
# Those that numpy writes. With others, one call can expand a few bytes to gigabytes.
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAX_MEMBERS = 1 << 16

Pieces = Iterator[memoryview]


class FileTensor(NamedTuple):
    """A tensor in a file.

    Attributes:
        name: its name in the file; for .npy the name of the file.
        type: its type.
        ne: its dimensions, the fastest first.
        size: its size in bytes.
        pieces: reads the bytes of the contiguous tensor in pieces of `ranges.PIECE`
            bytes, each valid until the next one. Raises the same errors as
            `read_tensors`.
    """

    name: str
    type: GGMLType
    ne: Dims
    size: int
    pieces: Callable[[], Pieces]


def read_tensors(path: Path) -> Iterator[FileTensor]:
    """The tensors of a file, in the order of the file.

    Raises:
        ConfigError: the suffix is unknown, or ggml does not have the type of a tensor.
        FileError: the file cannot be read, or is damaged.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ConfigError(
            f"{path} has an unknown suffix: use one of {', '.join(READERS)}"
        )
    with _reading(path):
        for tensor in read(path):
            yield tensor._replace(pieces=_guarded(path, tensor.pieces))


def _guarded(path: Path, pieces: Callable[[], Pieces]) -> Callable[[], Pieces]:
    def read() -> Pieces:
        with _reading(path):
            yield from pieces()

    return read


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert the exceptions for a damaged file to errors that name the file."""
    kind = path.suffix.lower()
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except GgrpcError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except InvalidFileError as error:
        raise FileError(f"{path} is not a valid {kind} file: {error}") from None
    except Exception as error:  # numpy, zlib and json raise various types for these
        raise FileError(
            f"{path} is not a valid {kind} file: it is damaged or has another format"
        ) from error


def _npy(path: Path) -> Iterator[FileTensor]:
    with path.open("rb") as file:
        array = read_header(file, path.stat().st_size)
    yield _of_array(path.stem, array, lambda: path.open("rb"))


def _npz(path: Path) -> Iterator[FileTensor]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise InvalidFileError(
                f"it has {len(members)} arrays, more than {MAX_MEMBERS}"
            )
        for member in members:
            if not member.filename.endswith(".npy"):
                raise InvalidFileError(f"{member.filename} is not an array")
            if member.compress_type not in COMPRESSIONS:
                raise InvalidFileError(
                    f"{member.filename} has an unsupported compression method"
                )
            with archive.open(member) as file:
                array = read_header(file, member.file_size)
            name = member.filename.removesuffix(".npy")
            yield _of_array(name, array, _opener(path, member))


def _opener(
    path: Path, member: zipfile.ZipInfo
) -> Callable[[], AbstractContextManager[IO[bytes]]]:
    @contextmanager
    def open() -> Iterator[IO[bytes]]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield file

    return open


def _of_array(
    name: str,
    array: StoredArray,
    open: Callable[[], AbstractContextManager[IO[bytes]]],
) -> FileTensor:
    size = array.nbytes
    return FileTensor(name, array.type, array.ne, size, lambda: array.pieces(open))


def _safetensors(path: Path) -> Iterator[FileTensor]:
    """Read a safetensors file: the size of the JSON header, the header, the data."""
    size = path.stat().st_size
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(MAX_HEADER, size - 8):
            raise InvalidFileError(f"the header is too long: {length} bytes")
        header = json.loads(file.read(length))
    data = FileRange(path, 8 + length, size - 8 - length)
    left = data.size
    for name, entry in header.items():
        if name != "__metadata__":
            tensor = _entry(name, entry["dtype"], entry["shape"])
            start, end = entry["data_offsets"]
            if end - start != tensor.size or not 0 <= start <= end <= data.size:
                raise InvalidFileError(
                    f"{name} has bytes {start} to {end} of {data.size}, not "
                    f"{tensor.size} bytes of shape {entry['shape']}"
                )
            left -= tensor.size
            if left < 0:
                raise InvalidFileError(f"{name} overlaps another tensor")
            place = FileRange(path, data.at + start, tensor.size)
            yield tensor._replace(pieces=place.pieces)


def _entry(name: str, dtype: str, shape: Sequence[object]) -> FileTensor:
    """A tensor without its bytes, of which only the size is known here."""
    dims = [n for n in shape if isinstance(n, int) and n >= 0]
    type = SAFETENSORS.get(dtype)
    if type is None:
        raise ConfigError(f"ggml has no type for {name}, which has type {dtype}")
    if len(dims) != len(shape):
        raise InvalidFileError(f"{name} has the invalid shape {shape}")
    size = math.prod(dims) * type.type_size
    return FileTensor(name, type, ne_of(dims), size, lambda: iter(()))


def _gguf(path: Path) -> Iterator[FileTensor]:
    for tensor in tensors_of(path):
        a, b, c, d = (*tensor.ne, 1, 1, 1, 1)[:4]
        pieces = tensor.range(path).pieces
        type = GGMLType[tensor.type]
        yield FileTensor(tensor.name, type, (a, b, c, d), tensor.size, pieces)


READERS = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".gguf": _gguf,
}
