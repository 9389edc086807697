"""The scratch memory of a program: nothing is allocated when it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from mmap import mmap
from typing import Any

import numpy as np

from ggrpc.devices.scratch_limit import check_scratch_size
from ggrpc.formats.codecs import Array

CHUNK = 1 << 20  # bytes, at least
TakeMemory = Callable[[int], mmap]
ALIGNMENT = 64  # bytes; a cache line, and the widest vector register


class Scratch:
    """Memory that all nodes of a program use in turn; contents are undefined.

    It grows by chunks, each as large as all before it, since arrays that point into it
    are already in use; so it never holds more than a few times the largest need.

    Args:
        take_memory: gives so many bytes, or raises OutOfMemory.
        buffers: bytes of the buffers that the program works on.
    """

    def __init__(self, take_memory: TakeMemory, buffers: int) -> None:
        self._take_memory = take_memory
        self._buffers = buffers
        self._chunks: list[Array] = []
        self._used: list[int] = []
        self._reserved: list[mmap] = []
        self._reserved_size = 0
        self._asked = 0

    def reset(self) -> None:
        """Begin the next node: all that was taken may be taken again."""
        self._used = [0] * len(self._chunks)
        self._asked = 0

    def reserve(self, nbytes: int) -> None:
        """Count memory that a step of this node takes from numpy, and gives back.

        Nobody touches what is taken for it here, so the system has it for numpy.

        Raises:
            OutOfMemory: there is not that much, or it is out of proportion.
        """
        self._asked += nbytes
        more = self._asked - self._reserved_size
        if more > 0:
            check_scratch_size(self._taken + more, self._buffers)
            self._reserved.append(self._take_memory(more))
            self._reserved_size += more

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array that is the node's until the next reset.

        Raises:
            OutOfMemory: there is not that much, or it is out of proportion.
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
        check_scratch_size(self._taken + size, self._buffers)
        memory = self._take_memory(max(size, self._held, CHUNK))
        self._chunks.append(np.frombuffer(memory, np.uint8))
        self._used.append(0)
        return len(self._chunks) - 1

    @property
    def _held(self) -> int:
        return sum(chunk.size for chunk in self._chunks)

    @property
    def _taken(self) -> int:
        return self._held + self._reserved_size
