"""Measures which shapes of work-groups are best on a device: a few candidates each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ggrpc.building.builder import GraphBuilder
from ggrpc.devices.device import Placed
from ggrpc.devices.opencl.device import OpenClDevice
from ggrpc.devices.opencl.program import OpenClProgram
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig, keep
from ggrpc.errors import DeviceError
from ggrpc.graph import Graph
from ggrpc.types import GGMLType

BASE, HANDLE = 1 << 40, 1
ROUNDS = 7  # each candidate's turns; its fastest counts
GAIN = 1.03  # how much faster than the usual shapes others must be: less is noise

# A weight of a larger model: more than a processor's caches hold.
COLUMNS, ROWS = 4096, 16384
TYPE = GGMLType.Q4_0

Values = tuple[int, ...]


class Trial(NamedTuple):
    """Some fields of `LaunchConfig`, and what to try for them.

    Attributes:
        fields: which.
        candidates: their values.
        tokens: rows that a matrix is multiplied with to find out.
    """

    fields: tuple[str, ...]
    candidates: tuple[Values, ...]
    tokens: int


class Choice(NamedTuple):
    """What a trial found.

    Attributes:
        fields: of `LaunchConfig`.
        usual, chosen: their values without the trial, and by it.
        usual_ms, chosen_ms: how long a product takes with them.
    """

    fields: tuple[str, ...]
    usual: Values
    chosen: Values
    usual_ms: float
    chosen_ms: float


FOR_PROCESSORS = (
    Trial(("bands",), ((2,), (4,), (8,), (16,), (32,)), 1),
    Trial(("tile",), ((4,), (8,), (16,)), 64),
)
FOR_GPUS = (
    Trial(("items",), ((32,), (64,), (128,), (256,)), 1),
    Trial(("rows",), ((1,), (2,), (4,)), 1),
    Trial(
        ("tile_rows", "tile_tokens"),
        ((32, 32), (64, 32), (64, 64), (128, 64), (128, 128)),
        128,
    ),
    Trial(("depth",), ((1,), (2,), (4,)), 128),
)


def trials_of(device: OpenClDevice) -> Sequence[Trial]:
    """Those that concern a device's kernels."""
    return FOR_PROCESSORS if device.traits.is_cpu else FOR_GPUS


def tune(device: OpenClDevice) -> Iterator[Choice]:
    """Try one thing after the other, each with what was found best before.

    In the end the device has the best shapes, and they are kept for later starts.

    Args:
        device: free of other work.

    Raises:
        DeviceError: it fails with its usual shapes, or they cannot be kept.
    """
    shapes = LaunchConfig()
    for trial in trials_of(device):
        choice = _choice(device, shapes, trial)
        shapes = _with(shapes, trial.fields, choice.chosen)
        yield choice
    device.traits = device.traits._replace(launch_config=shapes)
    try:
        keep(device.queue.device, shapes)
    except OSError as error:
        raise DeviceError(
            f"{device.name}: what was measured cannot be kept: {error}"
        ) from error


def _choice(device: OpenClDevice, shapes: LaunchConfig, trial: Trial) -> Choice:
    usual = tuple(getattr(LaunchConfig(), field) for field in trial.fields)
    with _product(device, trial.tokens) as compiled:
        programs = {usual: compiled(shapes)}
        for values in trial.candidates:
            if values != usual:
                try:
                    programs[values] = compiled(_with(shapes, trial.fields, values))
                    programs[values].run()
                except DeviceError:  # more than a work-group may have here
                    programs.pop(values, None)
        best = _fastest(programs)
    chosen = min(best, key=best.__getitem__)
    if best[chosen] * GAIN > best[usual]:
        chosen = usual
    return Choice(trial.fields, usual, chosen, best[usual], best[chosen])


def _with(
    shapes: LaunchConfig, fields: Sequence[str], values: Sequence[int]
) -> LaunchConfig:
    return shapes._replace(**dict(zip(fields, values, strict=True)))


def _fastest(
    programs: dict[tuple[int, ...], OpenClProgram],
) -> dict[tuple[int, ...], float]:
    """Milliseconds of each program, all of them in turn."""
    best = dict.fromkeys(programs, float("inf"))
    for _ in range(ROUNDS):
        for values, program in programs.items():
            start = time.perf_counter()
            program.run()
            best[values] = min(best[values], (time.perf_counter() - start) * 1e3)
    return best


@contextmanager
def _product(
    device: OpenClDevice, tokens: int
) -> Iterator[Callable[[LaunchConfig], OpenClProgram]]:
    """Compiles the same product for any shapes."""
    graph, size = _graph(tokens)
    buffer = device.allocate(size)
    traits = device.traits

    def compiled(shapes: LaunchConfig) -> OpenClProgram:
        device.traits = traits._replace(launch_config=shapes)
        return device.compile(graph, {HANDLE: Placed(BASE, buffer)})

    try:
        yield compiled
    finally:
        device.traits = traits
        buffer.free()


def _graph(tokens: int) -> tuple[Graph, int]:
    """A product, and bytes of the buffer that its tensors lie in."""
    g = GraphBuilder()
    g.mul_mat(g.tensor(TYPE, COLUMNS, ROWS), g.tensor(GGMLType.F32, COLUMNS, tokens))
    placed, at = [], 0
    for tensor in g.tensors:
        placed.append(tensor._replace(buffer=HANDLE, data=BASE + at))
        at += -(-tensor.nbytes // 256) * 256
    return Graph.of(placed, [placed[-1].id]), at
