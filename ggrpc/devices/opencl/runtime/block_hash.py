"""Computes FNV-1a hashes of long inputs with OpenCL kernels."""

from __future__ import annotations

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from ggrpc.devices.block_hash import (
    MODULUS,
    PRIME,
    BlockHash,
    Bytes,
    Chunks,
    Hashes,
    Lows,
)
from ggrpc.devices.opencl.runtime.build import Builder, failures_named
from ggrpc.devices.opencl.runtime.signals import signals_blocked

READ, WRITE = cl.mem_flags.READ_ONLY, cl.mem_flags.WRITE_ONLY
GROUP = 32  # chunks that a work-item of fnv1a.cl hashes
SECTION = 128  # bytes of a chunk that a work-item sums at once
# The factor of a hash for each section that follows.
LIFT = np.uint64(pow(PRIME, SECTION, MODULUS))


class CpuHash(BlockHash):
    """A hasher for CPUs: one work-item reads all bytes.

    Args:
        context: the context of the device.
        builder: builds the kernels.
        name: the name of the device, for error messages.

    Raises:
        DeviceError: the driver failed; `update` raises it too.
    """

    size = 512  # bytes of a chunk, so that a group fits the L1 cache
    min_size = 1 << 17

    def __init__(self, context: cl.Context, builder: Builder, name: str) -> None:
        self._context = context
        self._name = name
        with failures_named(name):
            program = builder.program("fnv1a", SIZE=self.size, CPU=1)
            self._kernel = cl.Kernel(program, "hash")
            self._queue, self._powers = _queue_and_powers(context)
            sizes = self.size * GROUP, GROUP, 4 * GROUP, 8 * GROUP
            self._scratch = [cl.Buffer(context, 0, size) for size in sizes]
            self._value = cl.Buffer(context, 0, 8)

    @signals_blocked()
    def update(self, value: int, data: Bytes) -> tuple[int, int]:
        groups = len(data) // (self.size * GROUP)
        after = np.array([value], np.uint64)
        power = np.uint64(pow(PRIME, self.size, MODULUS))
        flags = READ | cl.mem_flags.USE_HOST_PTR
        with failures_named(self._name):
            source = cl.Buffer(self._context, flags, hostbuf=data)
            cl.enqueue_copy(self._queue, self._value, after, is_blocking=False)
            arguments = source, np.uint64(groups), self._powers, LIFT, power
            self._kernel(
                self._queue, (1,), (1,), *arguments, *self._scratch, self._value
            )
            cl.enqueue_copy(self._queue, after, self._value)
        return int(after[0]), groups * GROUP * self.size


class OpenClChunks(Chunks):
    """A hasher for GPUs, in blocks of 16 MiB; launches delay smaller blocks too much.

    Args:
        context: the context of the device.
        builder: builds the kernels.
        name: the name of the device, for error messages.

    Raises:
        DeviceError: the driver failed; all methods raise it too.
    """

    size = 512
    group = GROUP
    max_chunks = 1 << 15
    min_size = 1 << 17
    bits = 3

    def __init__(self, context: cl.Context, builder: Builder, name: str) -> None:
        self._context = context
        self._name = name
        with failures_named(name):
            program = builder.program("fnv1a", SIZE=self.size, CPU=0)
            self._transpose = cl.Kernel(program, "columns")
            self._run_lows = cl.Kernel(program, "lows")
            self._run_hashes = cl.Kernel(program, "hashes")
            self._queue, self._powers = _queue_and_powers(context)
            self._transposed = cl.Buffer(context, 0, self.size * self.max_chunks)
            self._begins = cl.Buffer(context, READ, self.max_chunks)
            self._ends = cl.Buffer(context, WRITE, 4 * self.max_chunks)
            self._sums = cl.Buffer(context, WRITE, 8 * self.max_chunks)

    @signals_blocked()
    def take(self, data: Bytes) -> None:
        flags = READ | cl.mem_flags.COPY_HOST_PTR
        with failures_named(self._name):
            source = cl.Buffer(self._context, flags, hostbuf=data)
            groups = len(data) // (self.size * self.group)
            self._transpose(self._queue, (groups,), None, source, self._transposed)
            self._queue.finish()

    @signals_blocked()
    def lows(self, starts: Lows, bit: int) -> Lows:
        ends = np.empty((4, len(starts)), np.uint8)
        with failures_named(self._name):
            cl.enqueue_copy(self._queue, self._begins, starts, is_blocking=False)
            groups, at = (len(starts) // self.group,), np.int32(bit)
            buffers = self._transposed, self._begins, at, self._ends
            self._run_lows(self._queue, groups, None, *buffers)
            cl.enqueue_copy(self._queue, ends, self._ends)
        return ends

    @signals_blocked()
    def hashes(self, starts: Lows) -> Hashes:
        hashes = np.empty(len(starts), np.uint64)
        with failures_named(self._name):
            cl.enqueue_copy(self._queue, self._begins, starts, is_blocking=False)
            sides = (2 * len(starts) // self.group,)
            buffers = self._transposed, self._begins, self._powers, LIFT, self._sums
            self._run_hashes(self._queue, sides, None, *buffers)
            cl.enqueue_copy(self._queue, hashes, self._sums)
        return hashes


def _queue_and_powers(context: cl.Context) -> tuple[cl.CommandQueue, cl.Buffer]:
    """A new queue, and the buffer for the kernels' argument `powers`.

    Hashing has its own queue, so that it does not wait for programs.
    """
    flags = READ | cl.mem_flags.COPY_HOST_PTR
    return cl.CommandQueue(context), cl.Buffer(context, flags, hostbuf=_powers())


def _powers() -> NDArray[np.int16]:
    """The powers of PRIME for the bytes of a section, as four signed 16-bit digits.

    Returns:
        int16 (SECTION / 2, 4, 2); the digits of two bytes are adjacent.
    """
    powers = np.empty((SECTION // 2, 4, 2), np.int16)
    for place in range(SECTION):
        power = pow(PRIME, SECTION - place, MODULUS)
        for digit in range(4):
            low = (power + 0x8000) % 0x10000 - 0x8000
            powers[place // 2, digit, place % 2] = low
            power = (power - low) >> 16
    return powers
