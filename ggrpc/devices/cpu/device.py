"""The cpu device, which computes with numpy and accounts for this machine's memory."""

from __future__ import annotations

import platform
import time
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from mmap import mmap
from pathlib import Path
from threading import Lock, RLock
from typing import TypeVar

import psutil

from ggrpc.devices.cpu.available_memory import MachineMemory
from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import is_supported
from ggrpc.devices.cpu.mapped_memory import mapped
from ggrpc.devices.cpu.program import CpuProgram
from ggrpc.devices.cpu.scratch import ALIGNMENT
from ggrpc.devices.cpu.weights import WeightCache
from ggrpc.devices.cpu.workers import Workers
from ggrpc.devices.device import Device, Memory, Placed
from ggrpc.errors import OutOfMemory
from ggrpc.graph import Graph
from ggrpc.ops import Node

# Seconds until the system's memory is measured again. Measuring takes 40 microseconds,
# and clients allocate in bursts.
MEASURE_INTERVAL = 0.05
# The fraction of the total memory that the weight cache leaves free, for the scratch
# memory of programs and for other processes.
WEIGHT_RESERVE = 1 / 16
# The memory that is never allocated: this fraction of the total, but at most this many
# bytes. If the system runs out of memory, it kills the largest process: this one.
SYSTEM_RESERVE = 1 / 32
MAX_SYSTEM_RESERVE = 1 << 30
GIB = 1 << 30

Made = TypeVar("Made")


class CpuDevice(Device):
    """The processors and the memory of this machine.

    Args:
        threads: the number of threads; None for the number of processors.
        weight_cache: the maximum size of the weight cache in bytes; None for a quarter
            of the memory.

    Attributes:
        workers: the threads that run large steps.
        weights: the cache of unpacked weights.
    """

    def __init__(
        self, threads: int | None = None, weight_cache: int | None = None
    ) -> None:
        self.name = "cpu"
        self.description = _processor()
        self.alignment = ALIGNMENT
        self._machine = MachineMemory()
        self._total = self._machine.total
        self.max_size = self._total
        self.workers = Workers(threads)
        if weight_cache is None:
            weight_cache = self._total // 4
        self.weights = WeightCache(weight_cache, self._can_spare)
        self._process = psutil.Process()
        self._initial_rss: int = self._process.memory_info().rss
        self._handed_out = 0
        self._handing_out = Lock()
        # Guards _handed_out only. The garbage collector may free scratch memory at any
        # point of any thread, so this lock is reentrant and held only to update it.
        self._counting = RLock()
        self._measured_at = 0.0
        self._capacity = 0

    def memory(self) -> Memory:
        return Memory(self._free(), self._total)

    def allocate(self, size: int) -> CpuBuffer:
        make = partial(CpuBuffer, size, self.weights.changed, self._freed)
        return self.hand_out(size, make)

    def supports(self, node: Node) -> bool:
        return is_supported(node)

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> CpuProgram:
        return self.compiler(buffers).program(graph)

    def compiler(self, buffers: Mapping[int, Placed]) -> Compiler:
        """A compiler for graphs whose tensors are in these buffers."""
        return Compiler(buffers, self.workers, self.weights, self._take_scratch)

    def close(self) -> None:
        """Clear the weight cache and end the threads."""
        self.weights.clear()
        self.workers.close()

    def hand_out(self, size: int, make: Callable[[], Made]) -> Made:
        """Allocate memory and count it until `take_back` is called.

        Args:
            size: the size in bytes.
            make: allocates the memory, and returns it.

        Raises:
            OutOfMemory: there is not enough free memory.
        """
        with self._handing_out:
            free = self._free()
            if size > free:
                raise self._out_of_memory(size, free)
            if size > free - self.weights.used:
                self.weights.clear()
            try:
                made = make()
            except MemoryError as error:  # a limit of this process, for example
                raise self._out_of_memory(size, free) from error
            self._count(size)
        return made

    def _take_scratch(self, size: int) -> mmap:
        """Allocate scratch memory for a program, counted until it is freed."""
        memory = self.hand_out(size, partial(mapped, size))
        weakref.finalize(memory, self.take_back, size)
        return memory

    def take_back(self, size: int) -> None:
        """Stop counting bytes that `hand_out` counted."""
        self._count(-size)

    def _count(self, size: int) -> None:
        with self._counting:
            self._handed_out += size

    def _free(self) -> int:
        """The number of bytes that can still be allocated."""
        now = time.monotonic()
        if now - self._measured_at > MEASURE_INTERVAL:
            self._capacity = self._measure_capacity()
            self._measured_at = now
        return max(0, min(self._capacity, self._total) - self._handed_out)

    def _measure_capacity(self) -> int:
        """The total number of bytes that can be allocated, including those in use.

        The system counts a page as used once it is touched. The touched pages of
        buffers are estimated as the growth of the process without the unpacked weights,
        which are dropped when a buffer needs the memory.
        """
        unpacked = self.weights.used
        grown = self._process.memory_info().rss - self._initial_rss - unpacked
        touched = min(max(0, grown), self._handed_out)
        reserve = min(int(self._total * SYSTEM_RESERVE), MAX_SYSTEM_RESERVE)
        available = self._machine.available() - reserve
        capacity = int(available + unpacked + touched)
        mappable = self._machine.mappable()
        if mappable is not None:  # what is handed out is mapped, touched or not
            capacity = min(capacity, mappable + unpacked + self._handed_out)
        return capacity

    def _can_spare(self, size: int) -> bool:
        spare = self._free() - self.weights.used - size
        return spare >= self._total * WEIGHT_RESERVE

    def _freed(self, buffer: CpuBuffer) -> None:
        self._count(-buffer.size)
        self.weights.freed(buffer)

    def _out_of_memory(self, size: int, free: int) -> OutOfMemory:
        return OutOfMemory(
            f"{self.name}: {size / GIB:.2f} GiB requested, but {free / GIB:.2f} of "
            f"{self._total / GIB:.2f} GiB are free; place fewer layers on this server"
        )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
