"""GGUF files: the table of tensors, and a mapping of the file."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import NamedTuple

from ggrpc.errors import FileError

MAGIC = b"GGUF"


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


def is_gguf(path: Path) -> bool:
    """Whether a file starts with the magic of GGUF; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def map_file(path: str | Path) -> memoryview:
    """Map a file into memory, read only.

    The mapping lasts as long as the view and the slices of it.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is empty.
    """
    with open(path, "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def tensors_of(path: Path) -> list[GgufTensor]:
    """The tensors of a GGUF file, in the order of the file; reads only the header.

    Raises:
        FileError: the file cannot be read, is not a GGUF or is truncated.
    """
    from gguf import GGUFReader

    try:
        size = path.stat().st_size
        tensors = [
            GgufTensor(
                tensor.name,
                tensor.tensor_type.name,
                tuple(int(n) for n in tensor.shape),
                int(tensor.data_offset),
                int(tensor.n_bytes),
            )
            for tensor in GGUFReader(path).tensors
        ]
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # the reader validates little and raises anything
        raise FileError(
            f"{path} is not a valid GGUF: it is damaged, or of an unknown version; "
            "download it again"
        ) from error
    if any(tensor.offset + tensor.size > size for tensor in tensors):
        raise FileError(f"{path} is truncated at {size} bytes; download it again")
    return tensors
