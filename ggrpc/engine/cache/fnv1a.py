"""The 64-bit FNV-1a hash of a stream of bytes, by which llama.cpp identifies tensors.

`devices/block_hash.py` hashes single blocks.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from ggrpc.devices.block_hash import MODULUS, PRIME, BlockHash, Chunks
from ggrpc.errors import DeviceError

BASIS = 0xCBF29CE484222325

Bytes = bytes | bytearray | memoryview

log = logging.getLogger(__name__)


def fnv1a(data: Bytes) -> int:
    """The 64-bit FNV-1a hash of `data`."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.value


def hash_name(value: int) -> str:
    """The name of a cache file in llama.cpp: the hash as 16 hexadecimal digits."""
    return f"{value:016x}"


class Hasher:
    """Computes a hash incrementally; large pieces are faster.

    Args:
        block_hash: hashes blocks on a device; numpy takes over after a failure.

    Attributes:
        value: the hash of all bytes so far.
    """

    def __init__(self, block_hash: BlockHash | None = None) -> None:
        self.value = BASIS
        self._block_hash = block_hash
        self._numpy = Chunks()

    def update(self, data: Bytes) -> None:
        """Hash more bytes."""
        array = np.frombuffer(data, np.uint8)
        while len(array) >= self._numpy.min_size:
            self.value, taken = self._after_block(array)
            array = array[taken:]
        value = self.value
        for byte in array.tolist():
            value = (value ^ byte) * PRIME % MODULUS
        self.value = value

    def _after_block(self, array: NDArray[np.uint8]) -> tuple[int, int]:
        """Hash as many whole blocks as possible; returns the hash and their bytes."""
        if self._block_hash and len(array) >= self._block_hash.min_size:
            try:
                return self._block_hash.update(self.value, array)
            except DeviceError as error:
                log.warning("%s; hashing with numpy instead", error)
                self._block_hash = None
        return self._numpy.update(self.value, array)
