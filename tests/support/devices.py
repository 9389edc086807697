"""Devices that fail, or never come to an end, at the place of the test's choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.device import Placed, Program, no_checkpoint
from ggrpc.graph import Graph


class Faulty(CpuDevice):
    """A cpu that raises what `fault` makes, at one place, until it is repaired.

    Args:
        place: `allocate`, `compile`, `run`, `memory` or `free`.
        fault: makes the error.

    Attributes:
        place: where it raises; "" for nowhere.
    """

    def __init__(self, place: str, fault: Callable[[], BaseException]) -> None:
        super().__init__(threads=1, weight_cache=0)
        self.place = place
        self._fault = fault

    def at(self, place: str) -> None:
        """Come to a place."""
        if place == self.place:
            raise self._fault()

    def memory(self):  # type: ignore[no-untyped-def]
        self.at("memory")
        return super().memory()

    def allocate(self, size: int) -> CpuBuffer:
        self.at("allocate")
        return super().allocate(size)

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:  # type: ignore[override]
        self.at("compile")
        return _FaultyProgram(self, super().compile(graph, buffers))

    def _freed(self, buffer: CpuBuffer) -> None:
        super()._freed(buffer)
        self.at("free")


class _FaultyProgram(Program):
    def __init__(self, device: Faulty, program: Program) -> None:
        self._device = device
        self._program = program

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        self._device.at("run")
        self._program.run(checkpoint)


class Endless(CpuDevice):
    """A cpu whose graphs go on until `ends` says so.

    Args:
        ends: asked between nodes.
        pauses: whether it calls `checkpoint` there.
    """

    def __init__(self, ends: Callable[[], bool], pauses: bool = True) -> None:
        super().__init__(threads=1, weight_cache=0)
        self._ends = ends
        self._pauses = pauses

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:  # type: ignore[override]
        return _EndlessProgram(self._ends, self._pauses)


class _EndlessProgram(Program):
    def __init__(self, ends: Callable[[], bool], pauses: bool) -> None:
        self._ends = ends
        self._pauses = pauses

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        while not self._ends():
            if self._pauses:
                checkpoint()
