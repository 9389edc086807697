"""Buffers of an OpenCL device, in the memory of the host or of the device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeGuard

import numpy as np
import pyopencl as cl

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.device import Buffer
from ggrpc.devices.opencl.runtime.build import failures_named

READ_WRITE = cl.mem_flags.READ_WRITE
PIECE = 16 << 20  # bytes that are copied at a time, while the GIL is held


class OpenClBuffer(Buffer):
    """A buffer that OpenCL kernels and the cpu device's kernels can both use.

    Attributes:
        memory: the OpenCL buffer.
    """

    memory: cl.Buffer

    @property
    @abstractmethod
    def host(self) -> CpuBuffer:
        """The same memory on the host, or a copy of it for the cpu device's steps."""


class SharedBuffer(OpenClBuffer):
    """Memory of the host, which kernels use in place.

    Args:
        host: the memory.
        context: the context of a device that shares the host's memory.
    """

    def __init__(self, host: CpuBuffer, context: cl.Context) -> None:
        self.size = host.size
        self._host = host
        memory = host.memory if host.size else bytearray(1)
        self.memory = cl.Buffer(
            context, READ_WRITE | cl.mem_flags.USE_HOST_PTR, hostbuf=memory
        )

    @property
    def host(self) -> CpuBuffer:
        return self._host

    def read(self, offset: int, size: int) -> memoryview:
        return self._host.read(offset, size)

    def write(self, offset: int, size: int) -> memoryview:
        return self._host.write(offset, size)

    def update(self, offset: int, size: int) -> memoryview:
        return self._host.update(offset, size)

    def fill(self, offset: int, size: int, value: int) -> None:
        self._host.fill(offset, size, value)

    def copy(self, offset: int, source: Buffer, source_offset: int, size: int) -> None:
        self._host.copy(offset, source, source_offset, size)

    def free(self) -> None:
        self.memory.release()
        self._host.free()


class DeviceBuffer(OpenClBuffer):
    """Memory of the device; the driver copies what the host reads and writes.

    Args:
        size: the size in bytes.
        name: the name of the device, for error messages.
        queue: the queue of the device's programs.
        shadow: allocates the copy on the host, given its size. The system allocates
            its pages only when they are touched.
        freed: called with the size when the buffer is freed.
    """

    def __init__(
        self,
        size: int,
        name: str,
        queue: cl.CommandQueue,
        shadow: Callable[[int], CpuBuffer],
        freed: Callable[[int], None],
    ) -> None:
        self.size = size
        self.memory = cl.Buffer(queue.context, READ_WRITE, max(size, 1))
        self._name = name
        self._queue = queue
        self._shadow = shadow
        self._host: CpuBuffer | None = None
        self._freed = freed
        self.fill(0, size, 0)

    @property
    def host(self) -> CpuBuffer:
        if self._host is None:
            self._host = self._shadow(self.size)
        return self._host

    @contextmanager
    def read(self, offset: int, size: int) -> Iterator[memoryview]:
        with self._mapped(cl.map_flags.READ, offset, size) as view:
            yield view

    def write(self, offset: int, size: int) -> AbstractContextManager[memoryview]:
        return self._changed(cl.map_flags.WRITE_INVALIDATE_REGION, offset, size)

    def update(self, offset: int, size: int) -> AbstractContextManager[memoryview]:
        return self._changed(cl.map_flags.WRITE, offset, size)

    def fill(self, offset: int, size: int, value: int) -> None:
        if size:
            byte = np.array([value], np.uint8)
            with failures_named(self._name):
                cl.enqueue_fill_buffer(self._queue, self.memory, byte, offset, size)
                self._queue.finish()

    def copy(self, offset: int, source: Buffer, source_offset: int, size: int) -> None:
        if size and self._is_on_same_device(source):
            self._copy_on_device(offset, source, source_offset, size)
            return
        staging = memoryview(bytearray(min(size, PIECE)))
        starts = range(0, size, PIECE)
        # The ranges may overlap. Copy backwards if a forward copy would overwrite bytes
        # before it reads them.
        for at in reversed(starts) if source_offset < offset else starts:
            piece = staging[: size - at]
            source.get(source_offset + at, piece)
            self.put(offset + at, piece)

    def free(self) -> None:
        self.memory.release()
        if self._host is not None:
            self._host.free()
        self._freed(self.size)

    def _is_on_same_device(self, source: Buffer) -> TypeGuard[DeviceBuffer]:
        """Whether `source` is another buffer of the same device."""
        return (
            isinstance(source, DeviceBuffer)
            and source is not self
            and source._queue is self._queue
        )

    def _copy_on_device(
        self, offset: int, source: DeviceBuffer, source_offset: int, size: int
    ) -> None:
        self._outdate(offset, size)
        with failures_named(self._name):
            cl.enqueue_copy(
                self._queue,
                self.memory,
                source.memory,
                src_offset=source_offset,
                dst_offset=offset,
                byte_count=size,
            )
            self._queue.finish()

    @contextmanager
    def _changed(
        self, flags: cl.map_flags, offset: int, size: int
    ) -> Iterator[memoryview]:
        self._outdate(offset, size)
        with self._mapped(flags, offset, size) as view:
            yield view

    def _outdate(self, offset: int, size: int) -> None:
        """Drop weights that the cpu device has unpacked from bytes that change."""
        if self._host is not None:
            self._host.write(offset, size)

    @contextmanager
    def _mapped(
        self, flags: cl.map_flags, offset: int, size: int
    ) -> Iterator[memoryview]:
        if not size:
            yield memoryview(b"")
            return
        with failures_named(self._name):
            array, _ = cl.enqueue_map_buffer(
                self._queue, self.memory, flags, offset, (size,), np.dtype(np.uint8)
            )
        try:
            yield array.data
        finally:
            with failures_named(self._name):
                array.base.release(self._queue)
                self._queue.finish()
