"""The scratch memory of a program, allocated when the program is compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from mmap import mmap
from typing import Any

import numpy as np

from ggrpc.devices.scratch_limit import check_scratch_size
from ggrpc.formats.codecs import Array

MIN_CHUNK = 1 << 20  # bytes
TakeMemory = Callable[[int], mmap]  # allocates a number of bytes
ALIGNMENT = 64  # bytes; a cache line, and the widest vector register


class Scratch:
    """Memory that all nodes of a program reuse; its contents are undefined.

    Arrays that point into the memory are in use, so it cannot be moved to grow.
    Instead chunks are added, each at least as large as all earlier ones together. The
    total is at most a few times the memory of the largest node.

    Args:
        take_memory: allocates a number of bytes, or raises OutOfMemory.
        buffers: the total size of the program's buffers in bytes.
    """

    def __init__(self, take_memory: TakeMemory, buffers: int) -> None:
        self._take_memory = take_memory
        self._buffers = buffers
        self._chunks: list[Array] = []
        self._used: list[int] = []
        self._reserved: list[mmap] = []
        self._reserved_size = 0
        self._requested = 0

    def reset(self) -> None:
        """Let the next node reuse all memory."""
        self._used = [0] * len(self._chunks)
        self._requested = 0

    def reserve(self, nbytes: int) -> None:
        """Count memory that numpy allocates and frees again in a step of this node.

        The memory is also allocated here, to count it, but never touched, so that the
        system can give the pages to numpy.

        Raises:
            OutOfMemory: there is not enough free memory, or the program exceeds the
                limit of `check_scratch_size`.
        """
        self._requested += nbytes
        more = self._requested - self._reserved_size
        if more > 0:
            check_scratch_size(self._total_size + more, self._buffers)
            self._reserved.append(self._take_memory(more))
            self._reserved_size += more

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array that belongs to the node until the next reset.

        Raises:
            OutOfMemory: there is not enough free memory, or the program exceeds the
                limit of `check_scratch_size`.
        """
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
        check_scratch_size(self._total_size + size, self._buffers)
        memory = self._take_memory(max(size, self._chunk_size, MIN_CHUNK))
        self._chunks.append(np.frombuffer(memory, np.uint8))
        self._used.append(0)
        return len(self._chunks) - 1

    @property
    def _chunk_size(self) -> int:
        return sum(chunk.size for chunk in self._chunks)

    @property
    def _total_size(self) -> int:
        return self._chunk_size + self._reserved_size
