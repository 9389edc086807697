"""Compares the speed of servers by timing the same workloads on each, in rounds.

Machines are shared and noisy. The result is therefore the ratio of two servers in the
same round, and the range of that ratio over the rounds. This module does not print.
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
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.wire.commands import Command
from ggrpc.errors import GgrpcError, RefusedError
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import FLAG_COMPUTE, Tensor, contiguous_nb
from ggrpc.types import GGMLType

NODES = 200  # the graph of a decode step has several hundred
TINY = 32  # elements; so few that only the dispatch takes time
ROW = 4096  # bytes of a row in the transfers of rows
WORKLOAD_SECONDS = 0.02  # how long a workload is repeated in a round
MAX_CALLS = 200  # of a workload in a round


class Workload(NamedTuple):
    """An operation that is timed.

    Attributes:
        name: the protocol command, or a short description.
        size: the size of the transfer in bytes; None if it is not a transfer.
    """

    name: str
    size: int | None = None


Call = Callable[[], object]
Samples = dict[Workload, list[float]]  # seconds of each call


@dataclass(frozen=True)
class BenchSettings:
    """The settings of a benchmark.

    Attributes:
        sizes: the sizes of the transfers in bytes.
        device: the number of the device on each server.
        options: the options of the connections.
    """

    sizes: Sequence[int]
    device: int = 0
    options: ClientOptions = field(default_factory=ClientOptions)


class Ratio(NamedTuple):
    """The speed relative to the first server: median, lowest and highest round."""

    median: float
    low: float
    high: float


class Timing(NamedTuple):
    """How fast a server ran a workload.

    Attributes:
        workload: the workload.
        median: the median time of a call in seconds.
        p99: the 99th percentile in seconds.
        calls: the number of calls.
        ratio: the comparison with the first server; None for the first server itself,
            and if it did not complete the workload.
    """

    workload: Workload
    median: float
    p99: float
    calls: int
    ratio: Ratio | None


class Bench:
    """A benchmark of several servers. A server that fails is not timed again.

    Args:
        endpoints: the servers; each is compared with the first.
        settings: the settings.

    Attributes:
        errors: the errors of the servers that failed, by their index in `endpoints`.
    """

    def __init__(self, endpoints: Sequence[Endpoint], settings: BenchSettings) -> None:
        self.errors: dict[int, GgrpcError] = {}
        self._endpoints = endpoints
        self._settings = settings
        self._samples: list[list[Samples]] = [[] for _ in endpoints]
        self._order = list(reversed(range(len(endpoints))))
        self._rounds = 0  # that are complete

    def round(self, done: Callable[[int], None] = lambda count: None) -> None:
        """Time each server once, in the reverse order of the previous round.

        A round that is interrupted does not count, because some servers lack samples.

        Args:
            done: called with 1 after each server.
        """
        try:
            self._time_all(done)
        except BaseException:
            for samples in self._samples:
                del samples[self._rounds :]
            raise
        self._rounds += 1

    def _time_all(self, done: Callable[[int], None]) -> None:
        self._order.reverse()
        for at in self._order:
            if at not in self.errors:
                try:
                    samples = time_workloads(self._endpoints[at], self._settings)
                    self._samples[at].append(samples)
                except GgrpcError as error:
                    self.errors[at] = error
            done(1)

    def results(self, at: int) -> list[Timing]:
        """The results of a server; empty if it failed.

        Args:
            at: the index of the server in `endpoints`.
        """
        if at in self.errors or not self._samples[at]:
            return []
        return [self._result(at, workload) for workload in self._samples[at][0]]

    def _result(self, at: int, workload: Workload) -> Timing:
        rounds = [samples[workload] for samples in self._samples[at]]
        calls = sorted(seconds for samples in rounds for seconds in samples)
        ratio = self._ratio(workload, rounds) if at else None
        p99 = calls[min(len(calls) - 1, len(calls) * 99 // 100)]
        return Timing(workload, statistics.median(calls), p99, len(calls), ratio)

    def _ratio(self, workload: Workload, rounds: list[list[float]]) -> Ratio | None:
        if 0 in self.errors or workload not in self._samples[0][0]:
            return None
        first = [statistics.median(samples[workload]) for samples in self._samples[0]]
        mine = map(statistics.median, rounds)
        ratios = [a / b for a, b in zip(first, mine, strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def time_workloads(endpoint: Endpoint, settings: BenchSettings) -> Samples:
    """Time every workload on one server, in a new session.

    The session is closed afterwards, because llama.cpp's own server handles only one
    client at a time.

    Returns:
        The seconds of each call, by workload.

    Raises:
        GgrpcError: the server failed.
    """

    def connect() -> None:
        deadline = Deadline(settings.options.timeout)
        with open_client(endpoint, settings.options, deadline=deadline) as client:
            # A client that disconnects after HELLO has rejected the version.
            client.alignment()

    samples = {Workload("connect"): _timed(connect)}
    with open_client(endpoint, settings.options) as client:
        client.share_timeout()  # by all workloads
        for workload, call in _workloads(client, settings):
            samples[workload] = _timed(call)
    return samples


def _timed(call: Call) -> list[float]:
    """The seconds of each call, after one call to warm up."""
    call()
    times: list[float] = []
    end = time.perf_counter() + WORKLOAD_SECONDS
    while len(times) < MAX_CALLS:
        start = time.perf_counter()
        call()
        done = time.perf_counter()
        times.append(done - start)
        if done > end:
            break
    return times


def _workloads(
    client: Client, settings: BenchSettings
) -> Iterator[tuple[Workload, Call]]:
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
    """Transfers of `size` bytes; the buffers are freed when the iteration ends."""
    count = size // 4
    source, target = (client.allocate(size, device) for _ in range(2))
    first, second = _vector(client, 1, count, source), _vector(client, 2, count, target)
    data = memoryview(bytearray(os.urandom(size)))

    def set_tensor() -> None:
        client.set_tensor(first, data)
        client.alignment(device)  # its reply shows that SET_TENSOR is done

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
    """A graph of NODES small additions: sent for each call, or only recomputed."""
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
