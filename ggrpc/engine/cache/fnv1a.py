"""The hash that names a tensor's bytes: FNV-1a of 64 bits, as llama.cpp computes it.

`devices/block_hash.py` hashes one block; this module hashes bytes as they arrive.
It knows no files and no tensors.
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
    """The hash of some bytes."""
    hasher = Hasher()
    hasher.update(data)
    return hasher.value


def name_of(value: int) -> str:
    """A hash as llama.cpp names a cache's file after it: 16 hexadecimal digits."""
    return f"{value:016x}"


class Hasher:
    """The hash of bytes that arrive in pieces; as large as possible, to be fast.

    Args:
        fast: a device's way to hash blocks, which is left where it fails.

    Attributes:
        value: of all bytes so far.
    """

    def __init__(self, fast: BlockHash | None = None) -> None:
        self.value = BASIS
        self._fast = fast
        self._plain = Chunks()

    def update(self, data: Bytes) -> None:
        """Go on with more bytes."""
        array = np.frombuffer(data, np.uint8)
        while len(array) >= self._plain.least:
            self.value, taken = self._after_block(array)
            array = array[taken:]
        value = self.value
        for byte in array.tolist():
            value = (value ^ byte) * PRIME % MODULUS
        self.value = value

    def _after_block(self, array: NDArray[np.uint8]) -> tuple[int, int]:
        """The hash after as many bytes as there is a good way for, and how many."""
        if self._fast and len(array) >= self._fast.least:
            try:
                return self._fast.update(self.value, array)
            except DeviceError as error:
                log.warning("%s; hashing goes on without it", error)
                self._fast = None
        return self._plain.update(self.value, array)
