"""The cpu device: this machine's processor and memory, by numpy."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

import psutil

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.program import Compiler, CpuProgram, is_supported
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
GIB = 1 << 30


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
        self._total: int = psutil.virtual_memory().total
        self.max_size = self._total
        self.workers = Workers(threads)
        if weight_cache is None:
            weight_cache = self._total // 4
        self.weights = WeightCache(weight_cache, self._can_spare)
        self._process = psutil.Process()
        self._at_start: int = self._process.memory_info().rss
        self._handed_out = 0
        self._handing_out = Lock()
        self._read_at = 0.0
        self._capacity = 0

    def memory(self) -> Memory:
        return Memory(self._free(), self._total)

    def allocate(self, size: int) -> CpuBuffer:
        with self._handing_out:
            free = self._free()
            if size > free:
                raise self._out_of_memory(size, free)
            if size > free - self.weights.used:
                self.weights.clear()
            try:
                buffer = CpuBuffer(size, self.weights.changed, self._freed)
            except MemoryError as error:  # the system promises less than it has
                raise self._out_of_memory(size, free) from error
            self._handed_out += size
        return buffer

    def supports(self, node: Node) -> bool:
        return is_supported(node)

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> CpuProgram:
        return Compiler(buffers, self.workers, self.weights).program(graph)

    def close(self) -> None:
        """Give memory and threads back; no program may run any more."""
        self.weights.clear()
        self.workers.close()

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
        available: int = psutil.virtual_memory().available
        return int(available + unpacked + touched)

    def _can_spare(self, size: int) -> bool:
        spare = self._free() - self.weights.used - size
        return spare >= self._total * RESERVE

    def _freed(self, buffer: CpuBuffer) -> None:
        with self._handing_out:
            self._handed_out -= buffer.size
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
