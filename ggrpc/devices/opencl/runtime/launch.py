"""Launches of a kernel whose arguments were packed before.

Setting packed arguments takes a microsecond. So the launches of a program share a
kernel object, and each sets the arguments anew. pyopencl takes 150 microseconds to
create a kernel object, and 7 for a scalar argument that is not packed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyopencl as cl

_INT64, _UINT64 = struct.Struct("q").pack, struct.Struct("Q").pack
_FLOAT32, _INT64_4 = struct.Struct("f").pack, struct.Struct("4q").pack

Scalar = int | float | tuple[int, int, int, int] | np.generic


class Arguments:
    """The arguments of a launch, in the order of the kernel's parameters.

    Attributes:
        objects: the numbers and values of arguments that are buffers, in turn.
        values: the numbers and bytes of the other arguments, in turn.
        local: the numbers and values of arguments that are local memory.
    """

    def __init__(self) -> None:
        self._count = 0
        self.objects: list[Any] = []
        self.values: list[Any] = []
        self.local: list[tuple[int, cl.LocalMemory]] = []

    def add_buffer(self, buffer: cl.Buffer) -> None:
        """Append a buffer."""
        self.objects += self._count, buffer
        self._count += 1

    def add_part(self, buffer: cl.Buffer, offset: int) -> None:
        """Append a buffer, and an offset in it as a ulong."""
        self.objects += self._count, buffer
        self.values += self._count + 1, _UINT64(offset)
        self._count += 2

    def add_local(self, memory: cl.LocalMemory) -> None:
        """Append local memory."""
        self.local.append((self._count, memory))
        self._count += 1

    def add(self, value: Scalar) -> None:
        """Append an int as a long, a float as a float, and four ints as a long4."""
        self.values += self._count, _packed(value)
        self._count += 1

    @property
    def local_sizes(self) -> tuple[tuple[int, int], ...]:
        """The numbers and sizes in bytes of the local memory."""
        return tuple((at, memory.size) for at, memory in self.local)


def _packed(value: Scalar) -> bytes:
    if isinstance(value, tuple):
        return _INT64_4(*value)
    if isinstance(value, np.generic):
        return value.tobytes()
    return _INT64(value) if isinstance(value, int) else _FLOAT32(value)


def launch(
    queue: cl.CommandQueue,
    kernel: cl.Kernel,
    arguments: Arguments,
    global_size: tuple[int, ...],
    local_size: tuple[int, ...],
) -> Callable[[], cl.Event]:
    """A call that launches a kernel, whose local memory has been set.

    Args:
        queue: the queue.
        kernel: the kernel object. One thread at a time may use it.
        arguments: the arguments, which the call keeps alive.
        global_size: the number of work-items in each dimension.
        local_size: the number of work-items of a work-group in each dimension.
    """
    # pyopencl has no public name for these; without them a launch is slow but right.
    each = partial(_set_each, kernel)
    set_objects = getattr(kernel, "_set_arg_multi", each)
    set_values = getattr(kernel, "_set_arg_buf_multi", each)
    objects, values = tuple(arguments.objects), tuple(arguments.values)
    enqueue = cl.enqueue_nd_range_kernel

    def call() -> cl.Event:
        set_objects(objects)
        set_values(values)
        return enqueue(queue, kernel, global_size, local_size)

    return call


def _set_each(kernel: cl.Kernel, numbered: Sequence[Any]) -> None:
    for number, value in zip(numbered[::2], numbered[1::2], strict=True):
        kernel.set_arg(number, value)
