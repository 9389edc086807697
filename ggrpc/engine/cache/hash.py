"""The hash that names a tensor's bytes: FNV-1a of 64 bits, as llama.cpp computes it.

`h = (h xor byte) * PRIME` modulo 2^64, for one byte after the other. That is serial by
definition, and yet many chunks can be hashed at once, exactly:

- `h xor byte` changes the low byte alone, so `h' = PRIME * h + PRIME * d`, where d is
  by how much the low byte changed. Where a chunk's hash begins with only the low byte
  right, what is missing above it is multiplied by PRIME once for each byte, and can be
  added afterwards.
- The low byte alone is an automaton, `s' = (s xor byte) * 0xB3` modulo 256. Bit k of
  its end depends on bits 0 to k of its start, and flips exactly when bit k of the start
  does. So all chunks run from a guessed start, and each pass settles a bit of every
  chunk's start, by the xor of all ends before it. A pass that runs from both values of
  that bit settles the next bit too, and so on.

Nothing here knows files or tensors.
"""

from __future__ import annotations

import logging
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ggrpc.devices.hashing import MODULUS, PRIME, Chunks, Hashes, Lows
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
        fast: a device's way to hash chunks, which is left where it fails.

    Attributes:
        value: of all bytes so far.
    """

    def __init__(self, fast: Chunks | None = None) -> None:
        self.value = BASIS
        self._fast = fast
        self._plain = Chunks()

    def update(self, data: Bytes) -> None:
        """Go on with more bytes."""
        array = np.frombuffer(data, np.uint8)
        while len(array) >= self._plain.least:
            array = array[self._update_chunks(array) :]
        value = self.value
        for byte in array.tolist():
            value = (value ^ byte) * PRIME % MODULUS
        self.value = value

    def _update_chunks(self, array: NDArray[np.uint8]) -> int:
        """Go on with as many of these bytes as there is a good way for: how many."""
        if self._fast and len(array) >= self._fast.least:
            try:
                return self._update_block(self._fast, array)
            except DeviceError as error:
                log.warning("%s; hashing goes on without it", error)
                self._fast = None
        return self._update_block(self._plain, array)

    def _update_block(self, chunks: Chunks, array: NDArray[np.uint8]) -> int:
        count = min(len(array) // chunks.size, chunks.most)
        count -= count % chunks.group
        end = count * chunks.size
        chunks.take(array[:end])
        starts = _starts(chunks, count, self.value)
        power = pow(PRIME, chunks.size, MODULUS)
        # What the chunks before add to the hash of each, beyond its start.
        rest = chunks.hashes(starts)
        rest -= np.multiply(starts, np.uint64(power), dtype=np.uint64)
        rest *= _powers(power, chunks.most)[chunks.most - count :]
        lifted = self.value * pow(power, count, MODULUS)
        self.value = (lifted + int(rest.sum(dtype=np.uint64))) % MODULUS
        return end


def _starts(chunks: Chunks, count: int, value: int) -> Lows:
    """The low byte with which each chunk of a block begins, after a hash."""
    starts = np.zeros(count, np.uint8)
    for first in range(0, 8, chunks.bits):
        ends = list(chunks.lows(starts, first))
        for bit in range(first, min(first + chunks.bits, 8)):
            begins = _begins(ends[0], value, bit)
            starts |= begins << bit
            # Those go on that were run from what has turned out to be right.
            is_set = begins.view(np.bool_)
            pairs = zip(ends[::2], ends[1::2], strict=False)
            ends = [np.where(is_set, b, a) for a, b in pairs]
    return starts


def _begins(ends: Lows, value: int, bit: int) -> Lows:
    """A bit of each chunk's start, out of the ends to which 0 leads."""
    flips = np.empty(len(ends), np.uint8)
    flips[0] = value >> bit & 1
    flips[1:] = ends[:-1] >> bit & 1
    return np.bitwise_xor.accumulate(flips)


@cache
def _powers(power: int, count: int) -> Hashes:
    """What the end of each of `count` chunks is multiplied by until the last one's."""
    powers, done = np.ones(count, np.uint64), 1
    while done < count:  # the second half is the first, so many chunks earlier
        powers[done : 2 * done] = powers[:done] * np.uint64(power)
        power, done = power * power % MODULUS, 2 * done
    return powers[::-1].copy()
