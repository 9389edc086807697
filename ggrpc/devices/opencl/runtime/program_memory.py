"""The memory that a program has to itself, counted until the program is gone."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pyopencl as cl

from ggrpc.devices.scratch_limit import check_scratch_size

# Makes a buffer of so many bytes, and counts them, or raises OutOfMemory.
Take = Callable[[int], cl.Buffer]
Give = Callable[[int], None]


class ProgramMemory:
    """Buffers that live as long as this does.

    Args:
        take: gives memory.
        give: is told, at the end, how many bytes of it are free again.
        buffers: bytes of the session's buffers, to which the room is in proportion.

    Attributes:
        retained: what else lives as long: OpenCL keeps no arguments of kernels.
    """

    def __init__(self, take: Take, give: Give, buffers: int) -> None:
        self._take = take
        self._give = give
        self._buffers = buffers
        self._size = 0
        self.retained: list[cl.Buffer] = []

    def take(self, size: int) -> cl.Buffer:
        """Memory of `size` bytes; contents undefined.

        Raises:
            OutOfMemory: there is not that much, or it is out of proportion.
        """
        check_scratch_size(self._size + size, self._buffers)
        buffer = self._take(size)
        weakref.finalize(self, self._give, size)
        self._size += size
        self.retained.append(buffer)
        return buffer
