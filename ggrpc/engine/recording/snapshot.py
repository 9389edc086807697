"""A graph made ready to be run several times on the same inputs."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from ggrpc.devices.device import Buffer, Placed, Program, no_checkpoint
from ggrpc.graph import Graph
from ggrpc.ops import contract_of


class RepeatableGraph(Program):
    """A program, and the graph that it came from.

    Args:
        program: computes it.
        graph: the graph.
        placed: the buffers that it uses.

    Attributes:
        graph: the graph.
    """

    def __init__(
        self, program: Program, graph: Graph, placed: Mapping[int, Placed]
    ) -> None:
        self.graph = graph
        self._program = program
        self._placed = placed

    def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
        self._program.run(checkpoint)

    def keep(self) -> Callable[[], None]:
        """Keep what a run destroys of what it reads; gives what puts it back."""
        kept = [
            (buffer, at, _bytes(buffer, at, size)) for buffer, at, size in self._lost
        ]

        def put_back() -> None:
            for buffer, at, data in kept:
                buffer.put(at, data)

        return put_back

    @cached_property
    def _lost(self) -> list[tuple[Buffer, int, int]]:
        """Buffer, offset and size of each piece that a run destroys."""
        return [
            (
                self._placed[handle].buffer,
                start - self._placed[handle].base,
                end - start,
            )
            for handle, start, end in clobbered(self.graph)
        ]


def _bytes(buffer: Buffer, at: int, size: int) -> memoryview:
    view = memoryview(bytearray(size))
    buffer.get(at, view)
    return view


class Clobbered(NamedTuple):
    """Bytes that a graph reads and then overwrites.

    Attributes:
        buffer: the handle of their buffer.
        start: the address of the first.
        end: the address after the last.
    """

    buffer: int
    start: int
    end: int


def clobbered(graph: Graph) -> Iterator[Clobbered]:
    """What a second run of a graph would not find as the first one did.

    That is inputs whose memory is used again for results, as llama.cpp's allocator
    does, and state that a graph brings forward. Gaps between strided rows count as
    their tensor's.
    """
    read: defaultdict[int, Spans] = defaultdict(Spans)
    written: defaultdict[int, Spans] = defaultdict(Spans)
    for node in graph.nodes:
        if not contract_of(node.tensor.op).computes:
            continue
        for source in node.reads:
            end = source.data + source.nbytes
            for gap in list(written[source.buffer].gaps(source.data, end)):
                read[source.buffer].add(*gap)
        result = node.tensor
        written[result.buffer].add(result.data, result.data + result.nbytes)
    for handle, spans in read.items():
        for start, end in spans:
            for piece in written[handle].inside(start, end):
                yield Clobbered(handle, *piece)


class Spans:
    """Ranges of addresses, of which none touches another."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def add(self, start: int, end: int) -> None:
        """Add a range, joined with those that it meets."""
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
        """The parts of a range that are there."""
        first = bisect_right(self._ends, start)
        after = bisect_left(self._starts, end)
        for at in range(first, after):
            yield max(start, self._starts[at]), min(end, self._ends[at])

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range that are not there."""
        for begin, stop in self.inside(start, end):
            if start < begin:
                yield start, begin
            start = stop
        if start < end:
            yield start, end
