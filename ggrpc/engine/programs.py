"""A session's compiled graphs, kept by the bytes that they came from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ggrpc.devices.device import Device, Program

# A model has a graph for each batch size and each step of the cache's length; what a
# client alternates between is a handful for each part of a split.
MOST_KEPT = 64


class ProgramCache:
    """The programs used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Device, bytes], Program] = OrderedDict()

    def get(
        self,
        device: Device,
        graph: bytes,
        compile: Callable[[Device, bytes], Program],
    ) -> Program:
        """The program of a graph, compiled where it is not kept."""
        key = (device, graph)
        program = self._kept.pop(key, None) or compile(device, graph)
        self._kept[key] = program
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return program

    def clear(self) -> None:
        """Drop them all."""
        self._kept.clear()
