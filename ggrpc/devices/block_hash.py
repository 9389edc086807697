"""Hashes long pieces of bytes by FNV-1a of 64 bits.

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

What is here, in numpy, is the definition; a device that is faster has its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache

import numpy as np
from numpy.typing import NDArray

PRIME = 0x100000001B3
MODULUS = 1 << 64
LOW_PRIME = np.uint8(PRIME & 0xFF)

Bytes = NDArray[np.uint8]
Lows = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


class BlockHash(ABC):
    """Goes on with a hash by whole blocks; a thread has its own.

    Attributes:
        least: bytes of a block below which something simpler is as fast.
    """

    least: int

    @abstractmethod
    def update(self, value: int, data: Bytes) -> tuple[int, int]:
        """Go on with a hash.

        Args:
            value: the hash of all before.
            data: what comes next; `least` bytes or more.

        Returns:
            The hash after as many of the bytes as make a block, and how many those are.

        Raises:
            DeviceError: the device fails.
        """


class Chunks(BlockHash):
    """Blocks of chunks, one behind the other, which take their steps together.

    Attributes:
        size: bytes of a chunk. Here a cache line, so that no line is fetched twice.
        group: how many chunks a block has a multiple of.
        most: how many it has at most. Here enough for calls of numpy to cost little.
        bits: how many of the starts `lows` is to settle.
    """

    size = 64
    group = 1
    most = 1 << 16
    least = 4096
    bits = 2

    def __init__(self) -> None:
        self._columns = np.empty((self.size, self.most), np.uint8)
        self._block = self._columns

    def update(self, value: int, data: Bytes) -> tuple[int, int]:
        count = min(len(data) // self.size, self.most)
        count -= count % self.group
        end = count * self.size
        self.take(data[:end])
        starts = self._starts(count, value)
        power = pow(PRIME, self.size, MODULUS)
        # What the chunks before add to the hash of each, beyond its start.
        rest = self.hashes(starts)
        rest -= np.multiply(starts, np.uint64(power), dtype=np.uint64)
        rest *= _powers(power, self.most)[self.most - count :]
        lifted = value * pow(power, count, MODULUS)
        return (lifted + int(rest.sum(dtype=np.uint64))) % MODULUS, end

    def take(self, data: Bytes) -> None:
        """Begin with a block.

        Args:
            data: its bytes, which must stay as they are until the next one.
        """
        words = data.view(np.uint64).reshape(-1, self.size // 8)
        count = len(words)
        # One row for each place in a chunk, so that all chunks take a step at once;
        # eight rows at a time, for a word is fetched as fast as a byte.
        self._block = self._columns[:, :count]
        for at in range(self.size // 8):
            column = np.ascontiguousarray(words[:, at]).view(np.uint8).reshape(-1, 8)
            np.copyto(self._block[8 * at : 8 * at + 8], column.T)

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

    def _starts(self, count: int, value: int) -> Lows:
        """The low byte with which each chunk of a block begins, after a hash."""
        starts = np.zeros(count, np.uint8)
        for first in range(0, 8, self.bits):
            ends = list(self.lows(starts, first))
            for bit in range(first, min(first + self.bits, 8)):
                begins = _begins(ends[0], value, bit)
                starts |= begins << bit
                # Those go on that were run from what has turned out to be right.
                right = np.negative(begins)
                pairs = zip(ends[::2], ends[1::2], strict=False)
                ends = [a ^ (a ^ b) & right for a, b in pairs]
        return starts


def _begins(ends: Lows, value: int, bit: int) -> Lows:
    """A bit of each chunk's start, out of the ends to which 0 leads."""
    flips = np.empty(len(ends), np.uint8)
    flips[0] = value >> bit & 1
    flips[1:] = ends[:-1] >> bit & 1
    return _xor_so_far(flips)


def _xor_so_far(bits: Lows) -> Lows:
    """The xor of each bit and all before it; 64 at a time, for numpy's takes long."""
    words = np.zeros(-(-len(bits) // 64), np.uint64)
    packed = np.packbits(bits, bitorder="little")
    words.view(np.uint8)[: len(packed)] = packed
    for shift in (1, 2, 4, 8, 16, 32):
        words ^= words << np.uint64(shift)
    before = np.zeros_like(words)
    np.bitwise_xor.accumulate(words[:-1] >> np.uint64(63), out=before[1:])
    words ^= np.negative(before)
    return np.unpackbits(words.view(np.uint8), count=len(bits), bitorder="little")


@cache
def _powers(power: int, count: int) -> Hashes:
    """What the end of each of `count` chunks is multiplied by until the last one's."""
    powers, done = np.ones(count, np.uint64), 1
    while done < count:  # the second half is the first, so many chunks earlier
        powers[done : 2 * done] = powers[:done] * np.uint64(power)
        power, done = power * power % MODULUS, 2 * done
    return powers[::-1].copy()
