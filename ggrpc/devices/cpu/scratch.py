"""The scratch memory of a program: nothing is allocated when it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from mmap import mmap
from typing import Any

import numpy as np

from ggrpc.devices.cpu.arrays import Array

CHUNK = 1 << 20  # bytes, at least
TakeMemory = Callable[[int], mmap]
ALIGNMENT = 64  # bytes; a cache line, and the widest vector register


class Scratch:
    """Memory that all nodes of a program use in turn; contents are undefined.

    It grows by chunks, each as large as all before it, since arrays that point into it
    are already in use; so it never holds more than a few times the largest need.

    Args:
        take_memory: gives so many bytes, or raises OutOfMemory.
    """

    def __init__(self, take_memory: TakeMemory) -> None:
        self._take_memory = take_memory
        self._chunks: list[Array] = []
        self._used: list[int] = []

    def reset(self) -> None:
        """Begin the next node: all that was taken may be taken again."""
        self._used = [0] * len(self._chunks)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array that is the node's until the next reset."""
        nbytes = math.prod(shape) * dtype.itemsize
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        at = self._chunk_with(size)
        start = self._used[at]
        self._used[at] += size
        return np.ndarray(shape, dtype, self._chunks[at].data, start)

    def _chunk_with(self, size: int) -> int:
        for at, chunk in enumerate(self._chunks):
            if self._used[at] + size <= chunk.size:
                return at
        held = sum(chunk.size for chunk in self._chunks)
        memory = self._take_memory(max(size, held, CHUNK))
        self._chunks.append(np.frombuffer(memory, np.uint8))
        self._used.append(0)
        return len(self._chunks) - 1
