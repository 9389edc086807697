"""Saves and restores the inputs that a graph overwrites, so that it can run again."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ggrpc.devices.device import Buffer, Placed, Program, no_checkpoint
from ggrpc.graph import Graph
from ggrpc.ops import contract_of


class RepeatableProgram(Program):
    """A program that can be run several times on the same inputs.

    Args:
        program: the compiled graph.
        graph: the graph that the program was compiled from.
        placed: the buffers that the program uses, by handle.

    Attributes:
        graph: the graph that the program was compiled from.
    """

    def __init__(
        self, program: Program, graph: Graph, placed: Mapping[int, Placed]
    ) -> None:
        self.graph = graph
        self._program = program
        self._placed = placed

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        """Compute the graph once; see `Program.run`."""
        self._program.run(checkpoint)

    def snapshot(self) -> Callable[[], None]:
        """Copy the inputs that a run overwrites; returns a function to restore them."""
        saved = [
            (buffer, at, _copy_of(buffer, at, size))
            for buffer, at, size in self._clobbered
        ]

        def restore() -> None:
            for buffer, at, data in saved:
                buffer.put(at, data)

        return restore

    @cached_property
    def _clobbered(self) -> list[tuple[Buffer, int, int]]:
        """Buffer, offset and size of each range that a run clobbers."""
        return [
            (
                self._placed[handle].buffer,
                start - self._placed[handle].base,
                end - start,
            )
            for handle, start, end in clobbered_ranges(self.graph)
        ]


def _copy_of(buffer: Buffer, at: int, size: int) -> memoryview:
    view = memoryview(bytearray(size))
    buffer.get(at, view)
    return view


class ClobberedRange(NamedTuple):
    """A range of bytes that a graph reads and then overwrites.

    Attributes:
        buffer: the handle of the buffer.
        start: the address of the first byte.
        end: the address after the last byte.
    """

    buffer: int
    start: int
    end: int


def clobbered_ranges(graph: Graph) -> Iterator[ClobberedRange]:
    """The ranges of input bytes that a run of the graph overwrites.

    These are inputs whose memory llama.cpp's allocator reuses for results, and state
    that the graph updates in place. The gaps between strided rows count as part of
    the tensor.
    """
    read: defaultdict[int, RangeSet] = defaultdict(RangeSet)
    written: defaultdict[int, RangeSet] = defaultdict(RangeSet)
    for node in graph.nodes:
        if not contract_of(node.tensor.op).computes:
            continue
        for source in node.reads:
            end = source.data + source.nbytes
            for gap in list(written[source.buffer].gaps(source.data, end)):
                read[source.buffer].add(*gap)
        result = node.tensor
        written[result.buffer].add(result.data, result.data + result.nbytes)
    for handle, ranges in read.items():
        for start, end in ranges:
            for piece in written[handle].inside(start, end):
                yield ClobberedRange(handle, *piece)


class RangeSet:
    """A set of address ranges, none of which overlaps or touches another."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def add(self, start: int, end: int) -> None:
        """Add a range and merge it with the ranges that it overlaps or touches."""
        if start == end:
            return
        first = bisect_left(self._ends, start)
        after = bisect_right(self._starts, end)
        if first < after:
            start = min(start, self._starts[first])
            end = max(end, self._ends[after - 1])
        self._starts[first:after] = [start]
        self._ends[first:after] = [end]

    def inside(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that are in the set."""
        first = bisect_right(self._ends, start)
        after = bisect_left(self._starts, end)
        for at in range(first, after):
            yield max(start, self._starts[at]), min(end, self._ends[at])

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that are not in the set."""
        for begin, stop in self.inside(start, end):
            if start < begin:
                yield start, begin
            start = stop
        if start < end:
            yield start, end
