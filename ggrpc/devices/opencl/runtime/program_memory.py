"""Allocates the memory of one program, and counts it until the program is deleted."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pyopencl as cl

from ggrpc.devices.scratch_limit import check_scratch_size

# Allocates and counts this many bytes, or raises OutOfMemory.
Take = Callable[[int], cl.Buffer]
# Subtracts this many bytes.
Give = Callable[[int], None]


class ProgramMemory:
    """Buffers that live as long as this object.

    Args:
        take: allocates memory.
        give: called for each allocation when this object is deleted.
        buffers: the total size of the session's buffers in bytes, which limits the
            memory.
    """

    def __init__(self, take: Take, give: Give, buffers: int) -> None:
        self._take = take
        self._give = give
        self._buffers = buffers
        self._size = 0

    def take(self, size: int) -> cl.Buffer:
        """Allocate memory; contents undefined.

        Args:
            size: the size in bytes.

        Raises:
            OutOfMemory: the device does not have enough free memory, or the program
                exceeds the limit of `check_scratch_size`.
        """
        check_scratch_size(self._size + size, self._buffers)
        buffer = self._take(size)
        weakref.finalize(self, self._give, size)
        self._size += size
        return buffer
