"""Hashes chunks of bytes, many at once, by FNV-1a of 64 bits.

What is here, in numpy, is the definition; a device that is faster has its own. How the
hash of the whole comes out of that is the engine's: `engine/cache/hash.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PRIME = 0x100000001B3
MODULUS = 1 << 64
LOW_PRIME = np.uint8(PRIME & 0xFF)

Lows = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


class Chunks:
    """Chunks of a block, one behind the other; a thread has its own.

    Attributes:
        size: bytes of a chunk. Here a cache line, so that no line is fetched twice.
        group: how many chunks a block has a multiple of.
        most: how many it has at most. Here enough for calls of numpy to cost nothing,
            and 1 MiB, which stays in the processor's cache.
        least: bytes of a block below which something simpler is as fast.
        bits: how many of the starts `lows` is to settle.
    """

    size = 64
    group = 1
    most = 1 << 14
    least = 4096
    bits = 2

    def __init__(self) -> None:
        self._columns = np.empty((self.size, self.most), np.uint8)
        self._block = self._columns

    def take(self, data: NDArray[np.uint8]) -> None:
        """Begin with a block.

        Args:
            data: its bytes, which must stay as they are until the next one.
        """
        count = len(data) // self.size
        # One row for each place in a chunk, so that all chunks take a step at once.
        self._block = self._columns[:, :count]
        np.copyto(self._block, data.reshape(count, self.size).T)

    def lows(self, starts: Lows, bit: int) -> Lows:
        """The low byte of each chunk's hash.

        Args:
            starts: that with which it begins; this bit and those above are 0.
            bit: the lowest of those to settle. All but the highest of them take each
                value in turn.

        Returns:
            Of shape (2 ** (bits - 1), chunks).
        """
        values = range(0, 1 << bit + self.bits - 1, 1 << bit)
        low = np.stack([starts | np.uint8(value & 0xFF) for value in values])
        for column in self._block:
            np.bitwise_xor(low, column, out=low)
            np.multiply(low, LOW_PRIME, out=low)
        return low

    def hashes(self, starts: Lows) -> Hashes:
        """Each chunk's hash, begun with a low byte and nothing above."""
        hashes, prime = starts.astype(np.uint64), np.uint64(PRIME)
        wide = np.empty_like(hashes)
        for column in self._block:
            np.copyto(wide, column)
            np.bitwise_xor(hashes, wide, out=hashes)
            np.multiply(hashes, prime, out=hashes)
        return hashes
