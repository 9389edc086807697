"""Devices that fail, compute wrongly or never finish, for tests of errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.device import Placed, Program, no_checkpoint, place_of
from ggrpc.errors import DeviceError
from ggrpc.graph import Graph
from ggrpc.op import Op


class Faulty(CpuDevice):
    """A cpu device that raises an error in one of its methods.

    Args:
        place: the method: `allocate`, `compile`, `run`, `memory` or `free`.
        fault: returns the error.

    Attributes:
        place: the method that raises; "" repairs the device.
    """

    def __init__(self, place: str, fault: Callable[[], BaseException]) -> None:
        super().__init__(threads=1, weight_cache=0)
        self.place = place
        self._fault = fault

    def at(self, place: str) -> None:
        """Raise the error if this is the place."""
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
    """A cpu device whose graphs run until `ends` returns true.

    Args:
        ends: is called between nodes.
        pauses: whether `checkpoint` is called between nodes.
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


class _Flipping(Program):
    """Runs a program, then flips a bit in the results of one op."""

    def __init__(self, program: Program, results: list[Placed]) -> None:
        self._program = program
        self._results = results

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        self._program.run(checkpoint)
        for at, buffer in self._results:
            with buffer.write(at, 4) as view:
                view[3] ^= 0x40


class WrongDevice(CpuDevice):
    """A cpu device that computes one op wrongly: a bit of the first element differs."""

    def __init__(self, op: Op) -> None:
        super().__init__(threads=1, weight_cache=0)
        self._op = op

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:  # type: ignore[override]
        program = super().compile(graph, buffers)
        results = [
            place_of(node.tensor, buffers)
            for node in graph.nodes
            if node.tensor.op is self._op
        ]
        return _Flipping(program, [Placed(at, buffer) for buffer, at in results])


class FailingDevice(CpuDevice):
    """A cpu device that cannot compile one op, so that the server ends the session."""

    def __init__(self, op: Op) -> None:
        super().__init__(threads=1, weight_cache=0)
        self._op = op

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:  # type: ignore[override]
        if any(node.tensor.op is self._op for node in graph.nodes):
            raise DeviceError("the device is lost")
        return super().compile(graph, buffers)
