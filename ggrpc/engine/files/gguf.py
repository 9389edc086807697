"""What a GGUF holds, and where: nothing of the tensors is read."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import NamedTuple

from ggrpc.errors import FileError

MAGIC = b"GGUF"


class Stored(NamedTuple):
    """A tensor in a file.

    Attributes:
        name: its name.
        type: the name of its ggml type.
        ne: its dimensions.
        at: where it begins in the file.
        size: its bytes.
    """

    name: str
    type: str
    ne: tuple[int, ...]
    at: int
    size: int


def is_gguf(path: Path) -> bool:
    """Whether a file begins as a GGUF does; False where it cannot be read."""
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


def tensors_of(path: Path) -> list[Stored]:
    """Every tensor of a GGUF, in the order of the file.

    Raises:
        FileError: it cannot be read, is none, or is cut short.
    """
    from gguf import GGUFReader

    try:
        size = path.stat().st_size
        if not is_gguf(path):
            raise ValueError("it does not begin as one")
        tensors = [
            Stored(
                tensor.name,
                tensor.tensor_type.name,
                tuple(int(n) for n in tensor.shape),
                int(tensor.data_offset),
                int(tensor.n_bytes),
            )
            for tensor in GGUFReader(path).tensors
        ]
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # the reader checks little: anything may come of it
        raise FileError(f"{path} is no whole GGUF ({error}); fetch it again") from error
    if any(tensor.at + tensor.size > size for tensor in tensors):
        raise FileError(f"{path} is cut short at {size} bytes; fetch it again")
    return tensors
