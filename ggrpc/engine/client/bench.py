"""Times what servers do, in turns, so that they can be compared.

Machines are shared and noisy: what counts is the ratio of two servers in the same
round, and how far that spreads over the rounds. Nothing is printed here.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, open_client
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.wire.commands import Command
from ggrpc.errors import GgrpcError, RefusedError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import FLAG_COMPUTE, Tensor, contiguous_nb
from ggrpc.types import GGMLType

NODES = 200  # a decode step has some hundreds
TINY = 32  # elements, so that dispatch is all there is to time
ROW = 4096  # bytes of a row in the transfers of rows
SLICE = 0.02  # seconds that one case is timed for in a turn
MAX_CALLS = 200  # in such a slice


class Workload(NamedTuple):
    """One thing that is timed.

    Attributes:
        name: the command, in the protocol's words.
        size: bytes that it moves, None where that is not the point.
    """

    name: str
    size: int | None = None


Call = Callable[[], object]
Turn = dict[Workload, list[float]]


@dataclass(frozen=True)
class BenchSettings:
    """What is timed.

    Attributes:
        sizes: bytes of the transfers.
        device: the number of the device, on each server.
        options: how to connect to each server.
    """

    sizes: Sequence[int]
    device: int = 0
    options: ClientOptions = field(default_factory=ClientOptions)


class Ratio(NamedTuple):
    """How many times as fast as the first server, over the rounds."""

    median: float
    low: float
    high: float


class Timing(NamedTuple):
    """How long one case took on one server.

    Attributes:
        median: seconds of a call.
        p99: seconds that one call in a hundred took longer than.
        calls: how many were timed.
        ratio: against the first server, None for itself.
    """

    case: Workload
    median: float
    p99: float
    calls: int
    ratio: Ratio | None


class Bench:
    """The turns of several servers. One that fails drops out.

    Args:
        endpoints: the servers; ratios are against the first.
        settings: what is timed.

    Attributes:
        errors: why a server dropped out, by its place in `endpoints`.
    """

    def __init__(self, endpoints: Sequence[Endpoint], settings: BenchSettings) -> None:
        self.errors: dict[int, GgrpcError] = {}
        self._endpoints = endpoints
        self._settings = settings
        self._turns: list[list[Turn]] = [[] for _ in endpoints]
        self._order = list(reversed(range(len(endpoints))))

    def round(self, done: Callable[[int], None] = lambda count: None) -> None:
        """Give each server a turn, in the other order than the round before.

        Args:
            done: called with 1 after each.
        """
        self._order.reverse()
        for at in self._order:
            if at not in self.errors:
                try:
                    turn = take_turn(self._endpoints[at], self._settings)
                    self._turns[at].append(turn)
                except GgrpcError as error:
                    self.errors[at] = error
            done(1)

    def results(self, at: int) -> list[Timing]:
        """What came out for one server, none where it dropped out.

        Args:
            at: its place in `endpoints`.
        """
        if at in self.errors or not self._turns[at]:
            return []
        return [self._result(at, case) for case in self._turns[at][0]]

    def _result(self, at: int, case: Workload) -> Timing:
        rounds = [turn[case] for turn in self._turns[at]]
        calls = sorted(seconds for turn in rounds for seconds in turn)
        ratio = self._ratio(case, rounds) if at else None
        p99 = calls[min(len(calls) - 1, len(calls) * 99 // 100)]
        return Timing(case, statistics.median(calls), p99, len(calls), ratio)

    def _ratio(self, case: Workload, rounds: list[list[float]]) -> Ratio | None:
        if 0 in self.errors or case not in self._turns[0][0]:
            return None
        first = [statistics.median(turn[case]) for turn in self._turns[0]]
        mine = map(statistics.median, rounds)
        ratios = [a / b for a, b in zip(first, mine, strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def take_turn(endpoint: Endpoint, settings: BenchSettings) -> Turn:
    """Time every case on one server, in a session that is over afterwards.

    llama.cpp's own server talks to one client at a time: no session is kept between
    turns.

    Raises:
        GgrpcError: the server failed.
    """

    def connect() -> None:
        with open_client(endpoint, settings.options) as client:
            client.alignment()  # whoever leaves after HELLO has rejected the version

    turn = {Workload("connect"): _timed(connect)}
    with open_client(endpoint, settings.options) as client:
        for case, call in _cases(client, settings):
            turn[case] = _timed(call)
    return turn


def _timed(call: Call) -> list[float]:
    """The seconds of some calls; the one before, which warms up, does not count."""
    call()
    times: list[float] = []
    end = time.perf_counter() + SLICE
    while len(times) < MAX_CALLS:
        start = time.perf_counter()
        call()
        done = time.perf_counter()
        times.append(done - start)
        if done > end:
            break
    return times


def _cases(client: Client, settings: BenchSettings) -> Iterator[tuple[Workload, Call]]:
    device = settings.device
    if device >= client.device_count():
        raise RefusedError(
            f"{client.endpoint} has no device {device}: 'ggrpc probe' lists them",
            endpoint=str(client.endpoint),
        )
    yield Workload("request"), lambda: client.alignment(device)
    for size in (max(4, size // 4 * 4) for size in settings.sizes):
        yield from _transfers(client, size, device)
        if Command.SET_TENSOR_2D in client.dialect.commands:
            yield from _row_transfers(client, size, device)
    yield from _dispatches(client, device)


def _transfers(
    client: Client, size: int, device: int
) -> Iterator[tuple[Workload, Call]]:
    """SET, GET, COPY and CLEAR of so many bytes; gone from the server at the end."""
    count = size // 4
    source, target = (client.allocate(size, device) for _ in range(2))
    first, second = _vector(client, 1, count, source), _vector(client, 2, count, target)
    data = memoryview(bytearray(os.urandom(size)))

    def set_tensor() -> None:
        client.set_tensor(first, data)
        client.alignment(device)  # answered once the request before is done

    def clear() -> None:
        client.clear(target)
        client.alignment(device)

    yield Workload("SET_TENSOR", size), set_tensor
    yield Workload("GET_TENSOR", size), lambda: client.get_tensor(first, data)
    yield Workload("COPY_TENSOR", size), lambda: client.copy_tensor(first, second)
    yield Workload("BUFFER_CLEAR", size), clear
    client.free(source)
    client.free(target)


def _row_transfers(
    client: Client, size: int, device: int
) -> Iterator[tuple[Workload, Call]]:
    """Every second row of a tensor, as a tensor split moves them."""
    row = min(ROW, size)
    size -= size % row
    handle = client.allocate(2 * size, device)
    tensor = _vector(client, 1, 2 * size // 4, handle)
    data = memoryview(bytearray(os.urandom(size)))

    def set_rows() -> None:
        client.set_tensor_2d(tensor, data, row, 2 * row)
        client.alignment(device)

    yield Workload("SET_TENSOR_2D", size), set_rows
    yield (
        Workload("GET_TENSOR_2D", size),
        lambda: client.get_tensor_2d(tensor, data, row, 2 * row),
    )
    client.free(handle)


def _dispatches(client: Client, device: int) -> Iterator[tuple[Workload, Call]]:
    """A graph of NODES small additions: sent each time, and run again."""
    handle = client.allocate((NODES + 1) * TINY * 4, device)
    tensors = [_vector(client, 1, TINY, handle)]
    for at in range(1, NODES + 1):
        node = _vector(client, at + 1, TINY, handle, at * TINY * 4)
        src = (tensors[-1].id, 1) + (0,) * 8
        tensors.append(node._replace(op=Op.ADD, src=src, flags=FLAG_COMPUTE))
    graph = Graph.of(tensors, [tensor.id for tensor in tensors[1:]])
    result = memoryview(bytearray(4))

    def compute() -> None:
        client.compute(graph, device)
        client.get_tensor(tensors[-1], result)

    def recompute() -> None:
        client.recompute(device)
        client.get_tensor(tensors[-1], result)

    yield Workload(f"GRAPH_COMPUTE, {NODES} nodes"), compute
    if Command.GRAPH_RECOMPUTE in client.dialect.commands:
        yield Workload(f"GRAPH_RECOMPUTE, {NODES} nodes"), recompute


def _vector(
    client: Client, id: int, count: int, handle: int, offset: int = 0
) -> Tensor:
    ne = (count, 1, 1, 1)
    nb = contiguous_nb(GGMLType.F32, ne)
    data = client.base(handle) + offset
    return Tensor(id, GGMLType.F32, handle, ne, nb, data=data)
