"""The hash that names a tensor's bytes: FNV-1a of 64 bits, as llama.cpp computes it.

`h = (h xor byte) * PRIME` modulo 2^64, for one byte after the other. That is serial by
definition, and yet many chunks can be hashed at once, exactly:

- `h xor byte` changes the low byte alone, so `h' = PRIME * h + PRIME * d`, where d is
  by how much the low byte changed. Where a chunk's hash begins with only the low byte
  right, what is missing above it is multiplied by PRIME once for each byte, and can be
  added afterwards.
- The low byte alone is an automaton, `s' = (s xor byte) * 0xB3` modulo 256. Bit k of
  its end depends on bits 0 to k of its start, and flips exactly when bit k of the start
  does. So all chunks run from a guessed start, and each pass settles one bit of every
  chunk's start, by the xor of all ends before it.

Nothing here knows files or tensors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BASIS = 0xCBF29CE484222325
PRIME = 0x100000001B3
MODULUS = 1 << 64

# Bytes of a chunk: a cache line, so that no line is fetched twice.
CHUNK = 64
# Chunks at once: enough for calls of numpy to cost nothing, and a block of them, 1 MiB,
# stays in the processor's cache.
CHUNKS = 1 << 14
BLOCK = CHUNK * CHUNKS
FEW = 4096  # bytes for which a plain loop is as fast

_CHUNK_POWER = pow(PRIME, CHUNK, MODULUS)
_LOW_PRIME = np.uint8(PRIME & 0xFF)

Bytes = bytes | bytearray | memoryview


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

    Attributes:
        value: of all bytes so far.
    """

    def __init__(self) -> None:
        self.value = BASIS
        self._columns = np.empty((CHUNK, CHUNKS), np.uint8)
        self._low = np.empty(CHUNKS, np.uint8)
        self._hashes = np.empty(CHUNKS, np.uint64)
        self._wide = np.empty(CHUNKS, np.uint64)

    def update(self, data: Bytes) -> None:
        """Go on with more bytes."""
        array = np.frombuffer(data, np.uint8)
        while len(array) >= FEW:
            whole = min(len(array), BLOCK) // CHUNK * CHUNK
            self._update_chunks(array[:whole])
            array = array[whole:]
        value = self.value
        for byte in array.tolist():
            value = (value ^ byte) * PRIME % MODULUS
        self.value = value

    def _update_chunks(self, array: NDArray[np.uint8]) -> None:
        count = len(array) // CHUNK
        # One row for each place in a chunk, so that all chunks take a step at once.
        columns = self._columns[:, :count]
        np.copyto(columns, array.reshape(count, CHUNK).T)
        starts = self._starts(columns)
        ends = self._run(columns, starts)
        # What the chunks before add to the hash of each, beyond its start.
        rest = ends - np.multiply(starts, np.uint64(_CHUNK_POWER), dtype=np.uint64)
        powers = _POWERS[CHUNKS - count :]
        total = int(np.multiply(rest, powers).sum(dtype=np.uint64))
        lifted = self.value * pow(_CHUNK_POWER, count, MODULUS)
        self.value = (lifted + total) % MODULUS

    def _starts(self, columns: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The low byte with which each chunk begins."""
        count = columns.shape[1]
        low, starts = self._low[:count], np.zeros(count, np.uint8)
        flips = np.empty(count, np.uint8)
        for bit in range(8):
            np.copyto(low, starts)
            for column in columns:
                np.bitwise_xor(low, column, out=low)
                np.multiply(low, _LOW_PRIME, out=low)
            flips[0] = self.value >> bit & 1
            flips[1:] = low[:-1] >> bit & 1
            starts |= np.bitwise_xor.accumulate(flips) << bit
        return starts

    def _run(
        self, columns: NDArray[np.uint8], starts: NDArray[np.uint8]
    ) -> NDArray[np.uint64]:
        """Each chunk's hash, from a start of which only the low byte is there."""
        count = len(starts)
        hashes, wide, prime = self._hashes[:count], self._wide[:count], np.uint64(PRIME)
        np.copyto(hashes, starts)
        for column in columns:
            np.copyto(wide, column)
            np.bitwise_xor(hashes, wide, out=hashes)
            np.multiply(hashes, prime, out=hashes)
        return hashes


def _powers() -> NDArray[np.uint64]:
    """What the end of each of CHUNKS chunks is multiplied by until the last one's."""
    powers = np.ones(CHUNKS, np.uint64)
    power, done = _CHUNK_POWER, 1
    while done < CHUNKS:  # the second half is the first, so many chunks earlier
        powers[done : 2 * done] = powers[:done] * np.uint64(power)
        power, done = power * power % MODULUS, 2 * done
    return powers[::-1].copy()


_POWERS = _powers()
