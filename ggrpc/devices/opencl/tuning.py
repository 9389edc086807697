"""Finds the fastest launch sizes of a device by timing a few candidates for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, Protocol

import pyopencl as cl

from ggrpc.building.builder import GraphBuilder
from ggrpc.devices.device import Buffer, Placed, no_checkpoint
from ggrpc.devices.opencl.program import OpenClProgram
from ggrpc.devices.opencl.runtime import speed
from ggrpc.devices.opencl.runtime.launch_config import (
    LaunchConfig,
    is_stored,
    store,
)
from ggrpc.devices.opencl.runtime.traits import Traits
from ggrpc.errors import DeviceError, OutOfMemory
from ggrpc.graph import Graph
from ggrpc.types import GGMLType

BASE, HANDLE = 1 << 40, 1
ROUNDS = 7  # runs of each candidate; the fastest one counts
MIN_GAIN = 1.03  # speedup over the default; a smaller one may be noise

# The weight of a large model, which exceeds the caches of a processor.
COLUMNS, ROWS = 4096, 32768

# A prompt and an answer: their time decides among the drivers of a processor.
PROMPT, ANSWER = 64, 64  # tokens

Values = tuple[int, ...]


class Tunable(Protocol):
    """The parts of an OpenCL device that are used here."""

    name: str
    traits: Traits
    queue: cl.CommandQueue

    def allocate(self, size: int) -> Buffer:
        """See `Device.allocate`."""

    def compile_for(
        self,
        traits: Traits,
        graph: Graph,
        buffers: Mapping[int, Placed],
        exact: bool = False,
        checkpoint: Callable[[], None] = no_checkpoint,
    ) -> OpenClProgram:
        """See `OpenClDevice.compile_for`."""


class Trial(NamedTuple):
    """Fields of `LaunchConfig`, and the values to try for them.

    Attributes:
        fields: the names of the fields.
        candidates: the values to try.
        tokens: the number of rows that a matrix is multiplied with.
        type: the type of the matrix.
    """

    fields: tuple[str, ...]
    candidates: tuple[Values, ...]
    tokens: int
    type: GGMLType = GGMLType.Q4_0


class Choice(NamedTuple):
    """The result of a trial.

    Attributes:
        fields: the names of the fields of `LaunchConfig`.
        default: the default values.
        best: the fastest values.
        default_ms: the time of a product with the default values, in milliseconds.
        best_ms: the time of a product with the fastest values, in milliseconds.
    """

    fields: tuple[str, ...]
    default: Values
    best: Values
    default_ms: float
    best_ms: float


# What differs most between processors, and takes a second to measure.
QUICK_TRIALS = (
    Trial(("matvec_rows",), ((1,), (2,), (4,)), 1),
    Trial(("float_rows",), ((1,), (2,), (4,)), 1, GGMLType.F16),
    Trial(("prefetch",), ((0,), (1024,), (4096,), (8192,)), 1),
)
CPU_TRIALS = (
    *QUICK_TRIALS,
    Trial(("bands",), ((2,), (4,), (8,), (16,), (32,)), 1),
    Trial(("tile",), ((4,), (8,), (16,)), 64),
)
GPU_TRIALS = (
    Trial(("items",), ((32,), (64,), (128,), (256,)), 1),
    Trial(("rows",), ((1,), (2,), (4,)), 1),
    Trial(
        ("tile_rows", "tile_tokens"),
        ((32, 32), (64, 32), (64, 64), (128, 64), (128, 128)),
        128,
    ),
    Trial(("depth",), ((1,), (2,), (4,)), 128),
)


def trials_of(device: Tunable) -> Sequence[Trial]:
    """The trials for the kernels that a device uses."""
    return CPU_TRIALS if device.traits.is_cpu else GPU_TRIALS


def tune(device: Tunable) -> Iterator[Choice]:
    """Run one trial after another, each with the results of the trials before.

    At the end the device uses the fastest sizes, and they are stored for later starts.

    Args:
        device: a device that nothing else uses meanwhile.

    Yields:
        The result of each trial.

    Raises:
        DeviceError: the device fails with the default sizes, or the sizes cannot be
            stored.
    """
    config = _defaults(device)
    for trial in trials_of(device):
        choice = _choice(device, config, trial)
        config = _with(config, trial.fields, choice.best)
        yield choice
    try:
        _use(device, config)
    except OSError as error:
        raise DeviceError(
            f"{device.name}: the measured launch sizes cannot be stored: "
            f"{error.strerror or error}"
        ) from error
    if device.traits.is_cpu:
        measure_speed(device)


def measure_unless_known(device: Tunable, busy: Callable[[], bool]) -> bool:
    """Run the quick trials on a processor that was never measured with this driver.

    Args:
        device: the device; other threads may use it.
        busy: whether they do, which spoils a measurement. It is then left for later,
            and so it is if the device has too little memory.

    Returns:
        Whether the device uses new sizes.

    Raises:
        DeviceError: the device fails with the default sizes.
    """
    if not device.traits.is_cpu or is_stored(device.queue.device):
        return False
    config = _defaults(device)
    for trial in QUICK_TRIALS:
        if busy():
            return False
        try:
            config = _with(config, trial.fields, _choice(device, config, trial).best)
        except OutOfMemory:
            return False
    # 'ggrpc devices --tune' may have measured more meanwhile.
    if busy() or is_stored(device.queue.device):
        return False
    with suppress(OSError):  # it is measured again at the next start
        _use(device, config)
    return True


def _use(device: Tunable, config: LaunchConfig) -> None:
    device.traits = device.traits._replace(launch_config=config)
    store(device.queue.device, config)


def measure_speed(device: Tunable) -> None:
    """Measure how fast a device computes, and store the time for `rivals.py`.

    Raises:
        DeviceError: the device fails.
    """
    token, prompt = (
        _milliseconds(device, Trial((), (), tokens)) for tokens in (1, PROMPT)
    )
    speed.store(device.queue.device, ANSWER * token + prompt)


def _milliseconds(device: Tunable, trial: Trial) -> float:
    """The time of a product with the sizes that the device uses."""
    with _product(device, trial) as compile_with:
        return _fastest({(): compile_with(device.traits.launch_config)})[()]


def _choice(device: Tunable, config: LaunchConfig, trial: Trial) -> Choice:
    default = tuple(getattr(config, field) for field in trial.fields)
    with _product(device, trial) as compile_with:
        programs = {default: compile_with(config)}
        for values in trial.candidates:
            changed = _with(config, trial.fields, values)
            if values != default and _is_allowed(device, changed):
                try:
                    programs[values] = compile_with(changed)
                    programs[values].run()
                except DeviceError:  # the kernel needs too many registers for it
                    programs.pop(values, None)
        times = _fastest(programs)
    best = min(times, key=times.__getitem__)
    if times[best] * MIN_GAIN > times[default]:
        best = default
    return Choice(trial.fields, default, best, times[default], times[best])


def _defaults(device: Tunable) -> LaunchConfig:
    config = LaunchConfig()
    return config if device.traits.is_cpu else config.within(device.traits.max_group)


def _is_allowed(device: Tunable, config: LaunchConfig) -> bool:
    """Whether the sizes would be accepted from a file, at the next start."""
    return device.traits.is_cpu or not config.excess(device.traits.max_group)


def _with(
    config: LaunchConfig, fields: Sequence[str], values: Sequence[int]
) -> LaunchConfig:
    return config._replace(**dict(zip(fields, values, strict=True)))


def _fastest(
    programs: dict[tuple[int, ...], OpenClProgram],
) -> dict[tuple[int, ...], float]:
    """The fastest time of each program in milliseconds; the programs take turns."""
    best = dict.fromkeys(programs, float("inf"))
    for _ in range(ROUNDS):
        for values, program in programs.items():
            start = time.perf_counter()
            program.run()
            best[values] = min(best[values], (time.perf_counter() - start) * 1e3)
    return best


@contextmanager
def _product(
    device: Tunable, trial: Trial
) -> Iterator[Callable[[LaunchConfig], OpenClProgram]]:
    """A function that compiles the same product with any launch sizes."""
    graph, size = _graph(trial)
    buffer = device.allocate(size)
    buffer.fill(0, size, 1)  # reading memory that was never written takes no time

    def compile_with(config: LaunchConfig) -> OpenClProgram:
        traits = device.traits._replace(launch_config=config)
        buffers = {HANDLE: Placed(BASE, buffer)}
        return device.compile_for(traits, graph, buffers, exact=True)

    try:
        yield compile_with
    finally:
        buffer.free()


def _graph(trial: Trial) -> tuple[Graph, int]:
    """A product, and the size in bytes of the buffer for its tensors."""
    g = GraphBuilder()
    a = g.tensor(trial.type, COLUMNS, ROWS)
    g.mul_mat(a, g.tensor(GGMLType.F32, COLUMNS, trial.tokens))
    return g.placed(HANDLE, BASE)
