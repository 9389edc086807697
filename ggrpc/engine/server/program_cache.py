"""A session's compiled graphs, kept by the bytes that they came from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ggrpc.devices.device import Device, Program

# A model has a graph for each batch size and each step of the cache's length; what a
# client alternates between is a handful for each part of a split.
MAX_KEPT = 64
# A program takes several times the bytes of its graph; a large model's graph has 2 MiB.
MAX_BYTES = 32 << 20


class ProgramCache:
    """The programs used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Device, bytes], Program] = OrderedDict()
        self._bytes = 0  # of their graphs

    def get(
        self,
        device: Device,
        graph: bytes,
        compile: Callable[[Device, bytes], Program],
    ) -> Program:
        """The program of a graph, compiled where it is not kept."""
        key = (device, graph)
        program = self._kept.pop(key, None)
        if program is None:
            self._make_room(len(graph))
            program = compile(device, graph)
            self._bytes += len(graph)
        self._kept[key] = program
        return program

    def clear(self) -> None:
        """Drop them all."""
        self._kept.clear()
        self._bytes = 0

    def _make_room(self, size: int) -> None:
        """Drop those that were not used for longest."""
        while self._kept and (
            len(self._kept) >= MAX_KEPT or self._bytes + size > MAX_BYTES
        ):
            (_, dropped), _ = self._kept.popitem(last=False)
            self._bytes -= len(dropped)
