"""A session's compiled graphs, by the bytes of the graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ggrpc.devices.device import Device, Program

# A model has one graph for each batch size and each step of the KV cache's length. A
# client alternates between a few of them for each part of a split.
MAX_PROGRAMS = 64
# Bytes of graphs. A large model's graph has 2 MiB, and its program several times that.
MAX_BYTES = 32 << 20


class ProgramCache:
    """The most recently used programs of a session."""

    def __init__(self) -> None:
        self._programs: OrderedDict[tuple[Device, bytes], Program] = OrderedDict()
        self._bytes = 0  # of their graphs

    def get(
        self,
        device: Device,
        graph: bytes,
        compile: Callable[[Device, bytes], Program],
    ) -> Program:
        """The program of a graph, compiled if it is not in the cache."""
        key = (device, graph)
        program = self._programs.pop(key, None)
        if program is None:
            self._make_room(len(graph))
            program = compile(device, graph)
            self._bytes += len(graph)
        self._programs[key] = program
        return program

    def clear(self) -> None:
        """Drop all programs."""
        self._programs.clear()
        self._bytes = 0

    def _make_room(self, size: int) -> None:
        """Drop the least recently used programs."""
        while self._programs and (
            len(self._programs) >= MAX_PROGRAMS or self._bytes + size > MAX_BYTES
        ):
            (_, dropped), _ = self._programs.popitem(last=False)
            self._bytes -= len(dropped)
