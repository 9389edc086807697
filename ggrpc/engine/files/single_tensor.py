"""Loads and saves a file of one tensor: an array in .npy, or raw bytes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array_header_1_0

from ggrpc.atomic_file import SHARED, replacing
from ggrpc.engine.files.npy import InvalidFileError, read_array
from ggrpc.errors import FileError
from ggrpc.formats.codecs import Array
from ggrpc.formats.numpy_values import NUMPY, shape_of, unpack
from ggrpc.tensor import Tensor


def load(path: Path) -> Array | bytes:
    """Read a file.

    Returns:
        An array if the suffix is .npy; otherwise the bytes.

    Raises:
        FileError: the file cannot be read, or its suffix is .npy but it has another
            format.
    """
    try:
        if path.suffix != ".npy":
            return path.read_bytes()
        with path.open("rb") as file:
            return read_array(file, path.stat().st_size)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except InvalidFileError as error:
        raise FileError(f"cannot read {path} as .npy: {error}") from None
    except Exception as error:  # numpy raises various types for a damaged file
        raise FileError(
            f"cannot read {path} as .npy: it is damaged, or does not contain numbers"
        ) from error


def save(
    path: Path,
    tensor: Tensor,
    pieces: Iterable[bytearray | memoryview],
    force: bool = False,
) -> None:
    """Write a tensor as an array, or as raw bytes. A failed write leaves no file.

    Args:
        path: the file; the suffix .npy selects an array.
        tensor: the description of the tensor, contiguous.
        pieces: its bytes in order.
        force: replace an existing file.

    Raises:
        FileError: the file cannot be written, or exists and `force` is False.
    """
    try:
        if os.path.lexists(path) and not force:
            raise FileError(f"{path} already exists: use --force to replace it")
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
