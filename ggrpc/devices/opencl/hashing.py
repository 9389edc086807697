"""Hashes chunks of bytes with OpenCL kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyopencl as cl
from numpy.typing import NDArray

from ggrpc.devices.hashing import MODULUS, PRIME, Chunks, Hashes, Lows
from ggrpc.devices.opencl.build import Builder, first_line
from ggrpc.errors import DeviceError

READ, WRITE = cl.mem_flags.READ_ONLY, cl.mem_flags.WRITE_ONLY
SECTION = 128  # bytes, as the kernel sums them


class OpenClChunks(Chunks):
    """Blocks of 16 MiB, for which launches and waits cost little.

    Args:
        context: of the device.
        builder: its kernels' programs.
        name: the device's.
        shares_memory: whether its kernels work on this process's own memory.

    Raises:
        DeviceError: the driver refuses; all other methods raise the same.
    """

    size = 512
    group = 32
    most = 1 << 15
    least = 1 << 17
    bits = 3

    def __init__(
        self, context: cl.Context, builder: Builder, name: str, shares_memory: bool
    ) -> None:
        self._context = context
        self._name = name
        self._shares_memory = shares_memory
        with self._told():
            defines = {"SIZE": self.size, "PROCESSOR": int(shares_memory)}
            program = builder.program("hashing", **defines)
            self._turn = cl.Kernel(program, "columns")
            self._run_lows = cl.Kernel(program, "lows")
            self._run_hashes = cl.Kernel(program, "hashes")
            # Its own, for a thread must not wait for what others compute.
            self._queue = cl.CommandQueue(context)
            self._turned = cl.Buffer(context, 0, self.size * self.most)
            self._starts = cl.Buffer(context, READ, self.most)
            self._ends = cl.Buffer(context, WRITE, 4 * self.most)
            self._sums = cl.Buffer(context, WRITE, 8 * self.most)
            flags = READ | cl.mem_flags.COPY_HOST_PTR
            self._powers = cl.Buffer(context, flags, hostbuf=_powers())
        self._lift = np.uint64(pow(PRIME, SECTION, MODULUS))

    def take(self, data: NDArray[np.uint8]) -> None:
        place = cl.mem_flags.USE_HOST_PTR
        if not self._shares_memory:
            place = cl.mem_flags.COPY_HOST_PTR
        with self._told():
            self._source = cl.Buffer(self._context, READ | place, hostbuf=data)
            groups = len(data) // (self.size * self.group)
            self._turn(self._queue, (groups,), None, self._source, self._turned)
            self._queue.finish()

    def lows(self, starts: Lows, bit: int) -> Lows:
        ends = np.empty((4, len(starts)), np.uint8)
        with self._told():
            cl.enqueue_copy(self._queue, self._starts, starts, is_blocking=False)
            groups, at = (len(starts) // self.group,), np.int32(bit)
            buffers = self._turned, self._starts, at, self._ends
            self._run_lows(self._queue, groups, None, *buffers)
            cl.enqueue_copy(self._queue, ends, self._ends)
        return ends

    def hashes(self, starts: Lows) -> Hashes:
        hashes = np.empty(len(starts), np.uint64)
        with self._told():
            cl.enqueue_copy(self._queue, self._starts, starts, is_blocking=False)
            sides = (2 * len(starts) // self.group,)
            buffers = self._turned, self._starts, self._powers, self._lift, self._sums
            self._run_hashes(self._queue, sides, None, *buffers)
            cl.enqueue_copy(self._queue, hashes, self._sums)
        return hashes

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except cl.Error as error:
            raise DeviceError(f"{self._name}: {first_line(error)}") from error


def _powers() -> NDArray[np.int16]:
    """The powers of PRIME that a section's bytes are worth, in four signed digits.

    Returns:
        int16 of shape (SECTION / 2, 4, 2): the digits of two bytes side by side.
    """
    powers = np.empty((SECTION // 2, 4, 2), np.int16)
    for place in range(SECTION):
        power = pow(PRIME, SECTION - place, MODULUS)
        for digit in range(4):
            low = (power + 0x8000) % 0x10000 - 0x8000
            powers[place // 2, digit, place % 2] = low
            power = (power - low) >> 16
    return powers
