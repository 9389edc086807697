"""Computes 64-bit FNV-1a hashes of long inputs, many chunks in parallel.

FNV-1a is serial by definition: `h = (h xor byte) * PRIME` modulo 2^64 for each byte.
Many chunks can still be hashed at once, with an exact result:

- `h xor byte` changes only the low byte, so `h' = PRIME * h + PRIME * d`, where d is
  the change of the low byte. If the hash of a chunk starts with the right low byte, the
  missing upper part is multiplied by PRIME once for each byte, and can be added later.
- The low byte alone is an automaton, `s' = (s xor byte) * 0xB3` modulo 256. Bit k of
  its end state depends on bits 0 to k of its start state, and flips exactly when bit k
  of the start state flips. All chunks therefore run from a guessed start state; each
  pass finds one bit of every start state, as the xor of all end states before it. A
  pass that runs both values of that bit finds the next bit too, and so on.

This file has the reference implementation in numpy. A device may have a faster one.
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
    """Updates a hash with whole blocks; each thread needs its own instance.

    Attributes:
        min_size: the smallest input in bytes; for less, a simple loop is as fast.
    """

    min_size: int

    @abstractmethod
    def update(self, value: int, data: Bytes) -> tuple[int, int]:
        """Update a hash.

        Args:
            value: the hash of all bytes before.
            data: the next bytes; `min_size` or more.

        Returns:
            The hash after one block, and the number of bytes in that block.

        Raises:
            DeviceError: the device failed.
        """


class Chunks(BlockHash):
    """A hasher that splits a block into consecutive chunks and hashes them in step.

    Attributes:
        size: bytes of a chunk; here a cache line, so that no line is fetched twice.
        group: the number of chunks in a block is a multiple of this.
        max_chunks: the maximum number of chunks in a block; here enough to make the
            overhead of a numpy call small.
        bits: how many bits of the start states each call of `lows` finds.
    """

    size = 64
    group = 1
    max_chunks = 1 << 16
    min_size = 4096
    bits = 2

    def __init__(self) -> None:
        self._columns = np.empty((self.size, self.max_chunks), np.uint8)
        self._block = self._columns

    def update(self, value: int, data: Bytes) -> tuple[int, int]:
        """Hash one block of as many groups of chunks as fit; see `BlockHash.update`."""
        count = min(len(data) // self.size, self.max_chunks)
        count -= count % self.group
        end = count * self.size
        self.take(data[:end])
        starts = self._starts(count, value)
        power = pow(PRIME, self.size, MODULUS)
        # What each chunk adds to the hash, apart from its start state.
        rest = self.hashes(starts)
        rest -= np.multiply(starts, np.uint64(power), dtype=np.uint64)
        rest *= _powers(power, self.max_chunks)[self.max_chunks - count :]
        lifted = value * pow(power, count, MODULUS)
        return (lifted + int(rest.sum(dtype=np.uint64))) % MODULUS, end

    def take(self, data: Bytes) -> None:
        """Load a block.

        Args:
            data: the bytes; they must not change until the next block is loaded.
        """
        words = data.view(np.uint64).reshape(-1, self.size // 8)
        count = len(words)
        # One row for each position in a chunk, so that all chunks advance together;
        # eight rows at a time, since loading a word is as fast as loading a byte.
        self._block = self._columns[:, :count]
        for at in range(self.size // 8):
            column = np.ascontiguousarray(words[:, at]).view(np.uint8).reshape(-1, 8)
            np.copyto(self._block[8 * at : 8 * at + 8], column.T)

    def lows(self, starts: Lows, bit: int) -> Lows:
        """The low byte of each chunk's hash, for each guess of its start state.

        Args:
            starts: the known bits of the start states; `bit` and those above are 0.
            bit: the lowest bit to find. Both values of each bit to find are tried,
                except of the highest.

        Returns:
            An array of shape (2 ** (bits - 1), chunks).
        """
        values = range(0, 1 << bit + self.bits - 1, 1 << bit)
        low = np.stack([starts | np.uint8(value & 0xFF) for value in values])
        for column in self._block:
            np.bitwise_xor(low, column, out=low)
            np.multiply(low, LOW_PRIME, out=low)
        return low

    def hashes(self, starts: Lows) -> Hashes:
        """The hash of each chunk, started from a low byte with zeros above."""
        hashes, prime = starts.astype(np.uint64), np.uint64(PRIME)
        wide = np.empty_like(hashes)
        for column in self._block:
            np.copyto(wide, column)
            np.bitwise_xor(hashes, wide, out=hashes)
            np.multiply(hashes, prime, out=hashes)
        return hashes

    def _starts(self, count: int, value: int) -> Lows:
        """The start state (low byte) of each chunk of a block that follows a hash."""
        starts = np.zeros(count, np.uint8)
        for first in range(0, 8, self.bits):
            ends = list(self.lows(starts, first))
            for bit in range(first, min(first + self.bits, 8)):
                begins = _begins(ends[0], value, bit)
                starts |= begins << bit
                # Keep the end states of the correct guesses.
                right = np.negative(begins)
                pairs = zip(ends[::2], ends[1::2], strict=False)
                ends = [a ^ (a ^ b) & right for a, b in pairs]
        return starts


def _begins(ends: Lows, value: int, bit: int) -> Lows:
    """One bit of each chunk's start state, from the end states for a guess of 0."""
    flips = np.empty(len(ends), np.uint8)
    flips[0] = value >> bit & 1
    flips[1:] = ends[:-1] >> bit & 1
    return _xor_so_far(flips)


def _xor_so_far(bits: Lows) -> Lows:
    """The running xor of bits; 64 at a time, which is faster than numpy's own."""
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
    """The factor for each of `count` chunks: `power` to the number of later chunks."""
    powers, done = np.ones(count, np.uint64), 1
    while done < count:  # double the length: the second half is the first times power
        powers[done : 2 * done] = powers[:done] * np.uint64(power)
        power, done = power * power % MODULUS, 2 * done
    return powers[::-1].copy()
