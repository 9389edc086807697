"""Weights that a recording does not hold: out of a GGUF, or made up."""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path

import numpy as np

from ggrpc.engine.cache.fnv1a import fnv1a
from ggrpc.engine.files.gguf import tensors_of
from ggrpc.formats.codecs import CODECS, DTYPES
from ggrpc.tensor import Tensor


class GgufWeights:
    """The tensors of a GGUF.

    Args:
        path: the file.

    Raises:
        FileError: it cannot be read, is none, or is cut short.
    """

    def __init__(self, path: Path) -> None:
        self._stored = {tensor.name: tensor for tensor in tensors_of(path)}
        file = path.open("rb")
        self._file = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        file.close()

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
        stored = self._stored.get(tensor.name)
        if stored is None or not offset + size <= stored.size == tensor.nbytes:
            return None
        start = stored.at + offset
        view = self._file[start : start + size]
        return None if hash and fnv1a(view) != hash else view


def random_weights(tensor: Tensor, size: int) -> bytes:
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
