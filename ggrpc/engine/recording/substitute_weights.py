"""Supplies weights that a recording lacks, from a GGUF file or at random."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from ggrpc.devices.device import Buffer
from ggrpc.engine.cache.fnv1a import fnv1a
from ggrpc.engine.cache.loading import Loader
from ggrpc.engine.files.gguf import tensors_of
from ggrpc.engine.files.ranges import FileRange
from ggrpc.engine.recording.results import WeightSources
from ggrpc.engine.wire import messages as m
from ggrpc.errors import RecordingError
from ggrpc.formats.codecs import CODECS, DTYPES
from ggrpc.tensor import Tensor


class GgufWeights:
    """The tensors of a GGUF file.

    Args:
        path: the file.

    Raises:
        FileError: the file cannot be read, is not a GGUF file, or is truncated.
    """

    def __init__(self, path: Path) -> None:
        self._tensors = {tensor.name: tensor for tensor in tensors_of(path)}
        self._path = path

    def bytes_of(
        self, tensor: Tensor, offset: int, size: int, hash: int
    ) -> memoryview | None:
        """Bytes of the file's tensor with the same name.

        Args:
            tensor: the tensor to look up.
            offset: the offset of the first byte in the tensor.
            size: the number of bytes.
            hash: the FNV-1a hash of the bytes; 0 if it is unknown.

        Returns:
            The bytes; None if the file has no tensor of this name and size, or if its
            bytes have another hash.

        Raises:
            FileError: the file has become shorter, or cannot be read.
        """
        found = self._tensors.get(tensor.name)
        if found is None or not offset + size <= found.size == tensor.nbytes:
            return None
        view = FileRange(self._path, found.offset + offset, size).read()
        return None if hash and fnv1a(view) != hash else view


class SubstituteWeights(Loader):
    """The source of weights that a recording lacks; replaces the cache of a server.

    Args:
        model: the file to look in first; None makes all weights random.

    Attributes:
        counts: the number of tensors from each source.
    """

    def __init__(self, model: GgufWeights | None = None) -> None:
        super().__init__()
        self._model = model
        self.counts = WeightSources()

    def load(self, request: m.SetTensorHash, buffer: Buffer, at: int) -> bool:
        """Write the tensor that the recorded server found in its cache.

        Raises:
            RecordingError: the tensor does not lie inside the buffer.
        """
        size = request.tensor.nbytes - request.offset
        if not 0 <= size <= buffer.size - at:
            raise RecordingError(
                f"{request.tensor}: bytes {at} to {at + size} do not lie inside its "
                f"buffer of {buffer.size}"
            )
        with buffer.write(at, size) as view:
            self.fill(view, request.tensor, request.offset, request.hash)
        return True

    def fill(self, view: memoryview, tensor: Tensor, offset: int, hash: int) -> None:
        """Fill `view` with bytes of a tensor, from the model file or at random.

        Args:
            view: the bytes to fill.
            tensor: the tensor to look up.
            offset: the offset of the first byte in the tensor.
            hash: the FNV-1a hash of the bytes; 0 if it is unknown.
        """
        model, size = self._model, len(view)
        found = model.bytes_of(tensor, offset, size, hash) if model else None
        if found is None:
            view[:] = self.random(tensor, size)
        else:
            self.counts.model += 1
            view[:] = found

    def random(self, tensor: Tensor, size: int) -> bytes:
        """Random bytes of a tensor; see `random_weights`."""
        self.counts.random += 1
        return random_weights(tensor, size)


def random_weights(tensor: Tensor, size: int) -> bytes:
    """Normally distributed values of a realistic scale, the same every time.

    Args:
        tensor: the tensor that needs them; its name is the seed.
        size: the number of bytes.

    Returns:
        The bytes; zeros if the type has no codec that packs, or if `size` is not a
        multiple of its block size.
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
