"""The cpu device: this machine's processor and memory, by numpy."""

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

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import is_supported
from ggrpc.devices.cpu.machine import Machine
from ggrpc.devices.cpu.memory import mapped
from ggrpc.devices.cpu.program import CpuProgram
from ggrpc.devices.cpu.scratch import ALIGNMENT
from ggrpc.devices.cpu.weights import WeightCache
from ggrpc.devices.cpu.workers import Workers
from ggrpc.devices.device import Device, Memory, Placed
from ggrpc.errors import OutOfMemory
from ggrpc.graph import Graph
from ggrpc.ops import Node

# Seconds for which a reading of the system's memory stands: it takes 40 microseconds,
# and clients ask in bursts.
FRESH = 0.05
# The part of all memory that unpacked weights leave free, for the scratch memory of
# programs and for everything else that runs on the machine.
RESERVE = 1 / 16
# The part of all memory, and its most bytes, that is never handed out: where the last
# of it is touched, the system kills who has the most, and that is this process.
KEPT = 32
MAX_KEPT = 1 << 30
GIB = 1 << 30

Made = TypeVar("Made")


class CpuDevice(Device):
    """The processor that runs this process.

    Args:
        threads: how many to compute with; None for as many as there are processors.
        weight_cache: bytes that unpacked weights may take; None for a quarter of the
            machine's memory.
    """

    def __init__(
        self, threads: int | None = None, weight_cache: int | None = None
    ) -> None:
        self.name = "cpu"
        self.description = _processor()
        self.alignment = ALIGNMENT
        self._machine = Machine()
        self._total = self._machine.total
        self.max_size = self._total
        self.workers = Workers(threads)
        if weight_cache is None:
            weight_cache = self._total // 4
        self.weights = WeightCache(weight_cache, self._can_spare)
        self._process = psutil.Process()
        self._at_start: int = self._process.memory_info().rss
        self._handed_out = 0
        self._handing_out = Lock()
        # Scratch memory is given back by whoever collects garbage, in the middle of
        # anything: this guards the number alone, and nothing waits while it is held.
        self._counting = RLock()
        self._read_at = 0.0
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
        """What compiles graphs whose tensors lie in these buffers."""
        return Compiler(buffers, self.workers, self.weights, self._take_scratch)

    def close(self) -> None:
        """Give memory and threads back; no program may run any more."""
        self.weights.clear()
        self.workers.close()

    def hand_out(self, size: int, make: Callable[[], Made]) -> Made:
        """Make something that takes so many bytes, where they are there.

        Raises:
            OutOfMemory: they are not.
        """
        with self._handing_out:
            free = self._free()
            if size > free:
                raise self._out_of_memory(size, free)
            if size > free - self.weights.used:
                self.weights.clear()
            try:
                made = make()
            except MemoryError as error:  # the system promises less than it has
                raise self._out_of_memory(size, free) from error
            self._count(size)
        return made

    def _take_scratch(self, size: int) -> mmap:
        """Memory that a program works in, counted until the program is gone."""
        memory = self.hand_out(size, partial(mapped, size))
        weakref.finalize(memory, self.take_back, size)
        return memory

    def take_back(self, size: int) -> None:
        """So many bytes that were handed out are free again."""
        self._count(-size)

    def _count(self, size: int) -> None:
        with self._counting:
            self._handed_out += size

    def _free(self) -> int:
        """Bytes that can be handed out, now that so many are: touched or not."""
        now = time.monotonic()
        if now - self._read_at > FRESH:
            self._capacity = self._read_capacity()
            self._read_at = now
        return max(0, min(self._capacity, self._total) - self._handed_out)

    def _read_capacity(self) -> int:
        """Bytes that can be handed out in all.

        The system counts memory as taken when it is touched, so what buffers hold is
        what the process has grown by, without the unpacked weights; those make way.
        """
        unpacked = self.weights.used
        grown = self._process.memory_info().rss - self._at_start - unpacked
        touched = min(max(0, grown), self._handed_out)
        kept = min(self._total // KEPT, MAX_KEPT)
        available = self._machine.available() - kept
        return int(available + unpacked + touched)

    def _can_spare(self, size: int) -> bool:
        spare = self._free() - self.weights.used - size
        return spare >= self._total * RESERVE

    def _freed(self, buffer: CpuBuffer) -> None:
        self._count(-buffer.size)
        self.weights.freed(buffer)

    def _out_of_memory(self, size: int, free: int) -> OutOfMemory:
        return OutOfMemory(
            f"{self.name}: {size / GIB:.2f} GiB asked for, {free / GIB:.2f} of "
            f"{self._total / GIB:.2f} GiB are free; place fewer layers here"
        )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
