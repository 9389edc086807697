"""Devices that do something wrong, to be caught at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Placed, Program, no_checkpoint, place_of
from ggrpc.errors import DeviceError
from ggrpc.graph import Graph
from ggrpc.op import Op


class _Flipping(Program):
    """Runs a program, and then flips a bit of one op's results."""

    def __init__(self, program: Program, results: list[Placed]) -> None:
        self._program = program
        self._results = results

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        self._program.run(checkpoint)
        for at, buffer in self._results:
            with buffer.write(at, 4) as view:
                view[3] ^= 0x40


class WrongDevice(CpuDevice):
    """Reckons one op wrong: a bit of the first number."""

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
    """Fails one op, so that the server drops the session."""

    def __init__(self, op: Op) -> None:
        super().__init__(threads=1, weight_cache=0)
        self._op = op

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:  # type: ignore[override]
        if any(node.tensor.op is self._op for node in graph.nodes):
            raise DeviceError("the device is lost")
        return super().compile(graph, buffers)
