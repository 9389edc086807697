"""Weights that a recording does not hold: out of a GGUF, or made up."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ggrpc.devices.cpu.arrays import CODECS, DTYPES
from ggrpc.engine.cache.hash import fnv1a
from ggrpc.errors import ConfigError
from ggrpc.tensor import Tensor

Source = Callable[[Tensor, int, int, int], memoryview | None]


class Model:
    """The tensors of a GGUF.

    Args:
        path: the file.

    Raises:
        ConfigError: it is none.
    """

    def __init__(self, path: Path) -> None:
        import gguf

        try:
            reader = gguf.GGUFReader(path)
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise ConfigError(f"{path} is no GGUF that can be read: {error}") from error
        self._data: dict[str, Any] = {t.name: t.data for t in reader.tensors}

    def bytes_of(
        self, tensor: Tensor, offset: int, size: int, hash: int
    ) -> memoryview | None:
        """Bytes of the tensor of that name; None where it is not there, or another.

        Args:
            tensor: which.
            offset: of the first byte in it.
            size: how many.
            hash: their FNV-1a, 0 where it is not known.
        """
        array = self._data.get(tensor.name)
        if array is None or array.nbytes != tensor.nbytes:
            return None
        view = memoryview(array).cast("B")[offset : offset + size]
        return None if hash and fnv1a(view) != hash else view


def noise(tensor: Tensor, size: int) -> bytes:
    """Made-up contents: normal numbers of a weight's usual size, the same every time.

    Args:
        tensor: for which; its name is the seed.
        size: bytes, whole blocks of its type.

    Returns:
        The bytes; zeros for types that values cannot be packed into.
    """
    type = tensor.type
    rng = np.random.default_rng(zlib.crc32(tensor.name.encode()))
    pack = CODECS[type].pack if type in CODECS else None
    if pack is None or size % type.type_size:
        return bytes(size)
    count = size // type.type_size * type.blck_size
    scale = np.float32(max(1, tensor.ne[0]) ** -0.5)
    values = rng.standard_normal((1, count), np.float32) * scale
    dtype = DTYPES.get(type, np.dtype(np.uint8))
    out = np.empty((1, size // dtype.itemsize), dtype)
    pack(values, out)
    return out.tobytes()
