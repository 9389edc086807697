"""Arrays and raw bytes, to and from files; nothing is overwritten unless that is said.

A file called .npy holds an array, any other the bytes of a tensor as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap, write_array_header_1_0

from ggrpc.atomic_file import SHARED, replacing
from ggrpc.errors import ConfigError, FileError
from ggrpc.formats.codecs import Array
from ggrpc.formats.numpy_values import NUMPY, shape_of, unpack
from ggrpc.tensor import Tensor


def load(path: Path) -> Array | bytes:
    """Read a file; of an array only where it lies.

    Raises:
        FileError: it cannot be read, or is no .npy although it is called so.
    """
    try:
        if path.suffix != ".npy":
            return path.read_bytes()
        array: Array = open_memmap(path, mode="r")
        return array
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise FileError(f"cannot read {path} as .npy: {error}") from None


def save(
    path: Path,
    tensor: Tensor,
    pieces: Iterable[bytearray | memoryview],
    force: bool = False,
) -> None:
    """Write a tensor's values, or its bytes, whole or not at all.

    Args:
        path: the file.
        tensor: what it describes, contiguous.
        pieces: its bytes, one after the other.
        force: whether a file that is there is replaced.

    Raises:
        ConfigError: it is there.
        FileError: it cannot be written.
    """
    if path.exists() and not force:
        raise ConfigError(f"{path} is there already: --force replaces it")
    try:
        with replacing(path, SHARED) as file:
            if path.suffix != ".npy":
                file.writelines(pieces)
            elif tensor.type in NUMPY:
                dtype, shape = NUMPY[tensor.type], shape_of(tensor.ne)
                head = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                write_array_header_1_0(file, head)
                file.writelines(pieces)
            else:
                np.save(file, unpack(tensor, memoryview(b"".join(pieces))))
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from None
