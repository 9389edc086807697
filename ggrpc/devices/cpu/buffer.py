"""The buffers of the cpu device, in the memory of this process."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ggrpc.devices.cpu.mapped_memory import mapped
from ggrpc.devices.device import Buffer


class CpuBuffer(Buffer):
    """A private memory mapping, all zeros at first.

    The system allocates a page when it is first touched. `read` and `write` return
    memoryviews, which are context managers.

    Args:
        size: the size in bytes, 0 or more.
        changed: if `watched` is True, called before bytes change, with the buffer, the
            offset and the size of the range.
        freed: called when the buffer is freed.

    Attributes:
        memory: the bytes.
        watched: whether the weight cache has data that depends on the bytes.
        computed: whether a program writes to the buffer.
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
            # numpy releases the GIL, and handles overlapping ranges.
            np.frombuffer(window, np.uint8)[:] = np.frombuffer(origin, np.uint8)

    def free(self) -> None:
        # The memory is unmapped when no program has arrays that use it any longer.
        self._freed(self)
        self.memory = memoryview(b"")
