"""Lists the devices of this machine, and opens them by name.

Only this module imports every kind of device. It does so on demand.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from ggrpc.devices.device import Device
from ggrpc.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from ggrpc.devices.opencl.runtime.discovery import Found
    from ggrpc.devices.opencl.tuning import Choice


class DeviceListing(NamedTuple):
    """A device of this machine, usable or not.

    Attributes:
        name: the name on the command line, such as `cpu` or `opencl:0`.
        description: the manufacturer and model.
        free: the free memory in bytes; None if the driver does not report it.
        total: the memory in bytes; None if it is unknown.
        largest: the size of the largest buffer in bytes; None if it is unknown.
        unusable_reason: why the device cannot be used; None if it can.
    """

    name: str
    description: str
    free: int | None
    total: int | None
    largest: int | None
    unusable_reason: str | None = None


@dataclass(frozen=True)
class Choices:
    """Options for opening devices; each kind reads the options that it supports.

    Attributes:
        threads: the number of CPU threads; None for one per processor.
        weight_cache: the maximum size in bytes of the cpu device's unpacked weights;
            None for a quarter of the memory.
        profile: whether programs are profiled.
    """

    threads: int | None = None
    weight_cache: int | None = None
    profile: bool = False


class Tuning(NamedTuple):
    """A device whose work-group sizes can be tuned.

    Attributes:
        name: the name of the device.
        trials: the number of trials.
        run: runs the trials, yields each result, and stores the best sizes.
    """

    name: str
    trials: int
    run: Callable[[], Iterator[Choice]]


def entries() -> list[DeviceListing]:
    """Every device of this machine; OpenCL devices are tested with a small kernel."""
    return [*_cpu_entries(), *_opencl_entries()]


def open_devices(names: str | None, choices: Choices) -> Sequence[Device]:
    """Open devices, which the caller must close; if one fails, the others are closed.

    Args:
        names: one or more names, separated by commas. None selects all GPUs, or
            else the processor through OpenCL, or else the cpu device.
        choices: the options for the devices.

    Raises:
        ConfigError: a device does not exist.
        DeviceError: a device cannot be used.
    """
    chosen = _best(choices) if names is None else names.split(",")
    with ExitStack() as opened:
        devices = [
            opened.enter_context(_open(name.strip().lower(), choices))
            for name in chosen
        ]
        opened.pop_all()
    return devices


@contextmanager
def opened_devices(names: str | None, choices: Choices) -> Iterator[Sequence[Device]]:
    """Open devices as `open_devices` does, and close them when the block ends."""
    with ExitStack() as opened:
        yield [opened.enter_context(d) for d in open_devices(names, choices)]


def open_best(choices: Choices) -> Device:
    """Open the fastest kind of device that this machine has.

    Raises:
        DeviceError: the device cannot be used.
    """
    return _open(_best(choices)[0], choices)


def _best(choices: Choices) -> list[str]:
    """The names of all GPUs, or else the processor through OpenCL, or else `cpu`."""
    try:
        from ggrpc.devices.opencl.runtime.discovery import discover, unusable_reason

        _tell_driver(choices)
        usable = [found for found in discover() if not unusable_reason(found)]
    except (ImportError, DeviceError):
        usable = []
    gpus = [found for found in usable if not found.is_cpu]
    if usable and not gpus:
        from ggrpc.devices.opencl.rivals import fastest

        return [fastest(usable).name]
    return [found.name for found in gpus] or ["cpu"]


def _open(name: str, choices: Choices) -> Device:
    if name == "cpu":
        return _open_cpu(choices)
    if name.startswith("opencl:"):
        device = _open_opencl(name, choices)
        if device is not None:
            return device
    known = {entry.name: entry for entry in entries()}
    if name not in known:
        raise ConfigError(
            f"there is no device '{name}' on this machine, only {', '.join(known)}; "
            "run 'ggrpc devices' to list them"
        )
    raise DeviceError(f"{name} cannot be used: {known[name].unusable_reason}")


def tunings() -> list[Tuning]:
    """One tuning for each usable OpenCL device.

    Raises:
        DeviceError: there is no usable OpenCL device.
    """
    usable = [e for e in _opencl_entries() if e.unusable_reason is None]
    if not usable:
        raise DeviceError(
            "there is no usable OpenCL device to tune; run 'ggrpc devices' to see why"
        )
    return [_tuning(entry.name) for entry in usable]


def _tuning(name: str) -> Tuning:
    from ggrpc.devices.opencl import OpenClDevice
    from ggrpc.devices.opencl.tuning import trials_of, tune

    device = cast(OpenClDevice, _open(name, Choices()))
    return Tuning(name, len(trials_of(device)), lambda: tune(device))


def _cpu_entries() -> list[DeviceListing]:
    from ggrpc.devices.cpu import CpuDevice

    with CpuDevice(weight_cache=0) as device:
        memory = device.memory()
        return [
            DeviceListing(device.name, device.description, *memory, device.max_size)
        ]


def _open_cpu(choices: Choices) -> Device:
    from ggrpc.devices.cpu import CpuDevice

    return CpuDevice(choices.threads, choices.weight_cache)


def _open_opencl(name: str, choices: Choices) -> Device | None:
    """The OpenCL device with this name; None if no usable device has it."""
    try:
        from ggrpc.devices.opencl.runtime.discovery import discover, unusable_reason
    except ImportError:
        return None
    _tell_driver(choices)
    for found in discover():
        if found.name == name and not unusable_reason(found):
            from ggrpc.devices.cpu import CpuDevice
            from ggrpc.devices.opencl import OpenClDevice

            cpu = CpuDevice(choices.threads, choices.weight_cache)
            return OpenClDevice(found, cpu, profiling=choices.profile)
    return None


def _tell_driver(choices: Choices) -> None:
    """Limit the threads of the OpenCL drivers for CPUs as well: PoCL's and Intel's.

    For one thread PoCL has a device without threads of its own, which does not wait for
    another thread at each launch.
    """
    if choices.threads is not None:
        for name in ("POCL_MAX_PTHREAD_COUNT", "DPCPP_CPU_NUM_CUS"):
            os.environ.setdefault(name, str(choices.threads))
    if choices.threads == 1:
        os.environ.setdefault("POCL_DEVICES", "basic")


def _opencl_entries() -> list[DeviceListing]:
    try:
        from ggrpc.devices.opencl.runtime.discovery import discover

        return [_opencl_entry(found) for found in discover()]
    except (ImportError, DeviceError) as error:
        return [DeviceListing("opencl", "OpenCL", None, None, None, str(error))]


def _opencl_entry(found: Found) -> DeviceListing:
    from ggrpc.devices.opencl.runtime.discovery import unusable_reason

    free, total = None, found.total
    if found.is_cpu:  # its memory is the host's, which drivers may report wrongly
        (cpu,) = _cpu_entries()
        free, total = cpu.free, cpu.total or total
    name, description = found.name, found.description
    return DeviceListing(
        name, description, free, total, found.largest, unusable_reason(found)
    )
