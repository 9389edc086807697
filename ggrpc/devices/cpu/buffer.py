"""A buffer of the cpu device: a piece of this process's memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ggrpc.devices.cpu.memory import mapped
from ggrpc.devices.device import Buffer


class CpuBuffer(Buffer):
    """Memory that is all zeros at first, and the system's again when it is freed.

    Pages are taken from the system when they are first touched. A memoryview is its own
    context manager, which is all that `read` and `write` need.

    Args:
        size: bytes, 0 allowed.
        changed: called with the buffer and the range of bytes, before they change,
            once `watched` is set.
        freed: called when it is.

    Attributes:
        memory: the bytes.
        watched: whether anybody keeps something that was made from the bytes.
        computed: whether a program writes into it.
    """

    def __init__(
        self,
        size: int,
        changed: Callable[[CpuBuffer, int, int], None],
        freed: Callable[[CpuBuffer], None],
    ) -> None:
        self.size = size
        self.memory = memoryview(mapped(size))[:size]
        self.watched = False
        self.computed = False
        self._changed = changed
        self._freed = freed

    def read(self, offset: int, size: int) -> memoryview:
        return self.memory[offset : offset + size]

    def write(self, offset: int, size: int) -> memoryview:
        if self.watched:
            self._changed(self, offset, size)
        return self.memory[offset : offset + size]

    update = write

    def fill(self, offset: int, size: int, value: int) -> None:
        with self.write(offset, size) as window:
            np.frombuffer(window, np.uint8).fill(value)

    def copy(self, offset: int, source: Buffer, source_offset: int, size: int) -> None:
        with (
            source.read(source_offset, size) as origin,
            self.write(offset, size) as window,
        ):
            # By numpy, which lets other threads run meanwhile, and minds an overlap.
            np.frombuffer(window, np.uint8)[:] = np.frombuffer(origin, np.uint8)

    def free(self) -> None:
        # An array that a program still holds keeps the mapping until it goes too.
        self._freed(self)
        self.memory = memoryview(b"")
