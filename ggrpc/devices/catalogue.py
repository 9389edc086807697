"""The kinds of device there are: how to find them, and how to open one by its name.

The one place that knows them all. A kind's code is loaded when it is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from ggrpc.devices.device import Device
from ggrpc.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from ggrpc.devices.opencl.runtime.discovery import Found
    from ggrpc.devices.opencl.tuning import Choice


class DeviceListing(NamedTuple):
    """A device of this machine, whether it can be used or not.

    Attributes:
        name: what an operator calls it, such as `cpu` or `opencl:0`.
        description: what it is.
        free: bytes of free memory, None where the driver does not tell.
        total: bytes of all its memory, None where that is not known.
        largest: bytes of the largest buffer, None where that is not known.
        why_not: why it cannot be used, None where it can.
    """

    name: str
    description: str
    free: int | None
    total: int | None
    largest: int | None
    why_not: str | None = None


@dataclass(frozen=True)
class Choices:
    """What can be chosen about devices; each kind takes what concerns it.

    Attributes:
        threads: how many the cpu computes with, None for all its processors.
        weight_cache: bytes that the cpu's unpacked weights may take, None for a
            quarter of the memory.
        profile: whether programs are run with a profile.
    """

    threads: int | None = None
    weight_cache: int | None = None
    profile: bool = False


class Tuning(NamedTuple):
    """A device whose work-group shapes can be measured.

    Attributes:
        name: of the device.
        trials: how many there are.
        run: makes them, one choice after the other, and keeps what it finds.
    """

    name: str
    trials: int
    run: Callable[[], Iterator[Choice]]


def entries() -> list[DeviceListing]:
    """Every device of this machine, each OpenCL device proved by a small kernel."""
    return [*_cpu_entries(), *_opencl_entries()]


def open_devices(names: str | None, choices: Choices) -> Sequence[Device]:
    """Open devices.

    Args:
        names: one or more, with commas between; None for the best there are: all GPUs,
            else the processor by OpenCL, else the cpu.
        choices: how to run them.

    Raises:
        ConfigError: there is no such device.
        DeviceError: it cannot be used.
    """
    chosen = _best(choices) if names is None else names.split(",")
    return [_open(name.strip().lower(), choices) for name in chosen]


def open_best(choices: Choices) -> Device:
    """Open one device, the best there is.

    Raises:
        DeviceError: it cannot be used.
    """
    return _open(_best(choices)[0], choices)


def _best(choices: Choices) -> list[str]:
    """The names of all GPUs, else of the processor by OpenCL, else of the cpu."""
    try:
        from ggrpc.devices.opencl.runtime.discovery import discover, why_not

        _tell_driver(choices)
        usable = [found for found in discover() if not why_not(found)]
    except (ImportError, DeviceError):
        usable = []
    gpus = [found for found in usable if not found.is_cpu]
    return [found.name for found in gpus or usable[:1]] or ["cpu"]


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
            f"there is no device '{name}' here, only {', '.join(known)}; "
            "'ggrpc devices' lists them"
        )
    raise DeviceError(f"{name} cannot be used: {known[name].why_not}")


def tunings() -> list[Tuning]:
    """One for each device that can be measured: the OpenCL ones that can be used.

    Raises:
        DeviceError: there is none.
    """
    usable = [e for e in _opencl_entries() if e.why_not is None]
    if not usable:
        raise DeviceError("there is no OpenCL device to measure; see 'ggrpc devices'")
    return [_tuning(entry.name) for entry in usable]


def _tuning(name: str) -> Tuning:
    from ggrpc.devices.opencl import OpenClDevice
    from ggrpc.devices.opencl.tuning import trials_of, tune

    device = cast(OpenClDevice, _open(name, Choices()))
    return Tuning(name, len(trials_of(device)), lambda: tune(device))


def _cpu_entries() -> list[DeviceListing]:
    from ggrpc.devices.cpu import CpuDevice

    with closing(CpuDevice(weight_cache=0)) as device:
        memory = device.memory()
        return [
            DeviceListing(device.name, device.description, *memory, device.max_size)
        ]


def _open_cpu(choices: Choices) -> Device:
    from ggrpc.devices.cpu import CpuDevice

    return CpuDevice(choices.threads, choices.weight_cache)


def _open_opencl(name: str, choices: Choices) -> Device | None:
    """The OpenCL device of a name; None where there is none that can be used."""
    try:
        from ggrpc.devices.opencl.runtime.discovery import discover, why_not
    except ImportError:
        return None
    _tell_driver(choices)
    for found in discover():
        if found.name == name and not why_not(found):
            from ggrpc.devices.cpu import CpuDevice
            from ggrpc.devices.opencl import OpenClDevice

            cpu = CpuDevice(choices.threads, choices.weight_cache)
            return OpenClDevice(found, cpu, keeps_time=choices.profile)
    return None


def _tell_driver(choices: Choices) -> None:
    """Let PoCL, which makes a device of the processor, use as many threads."""
    if choices.threads is not None:
        os.environ.setdefault("POCL_MAX_PTHREAD_COUNT", str(choices.threads))


def _opencl_entries() -> list[DeviceListing]:
    try:
        from ggrpc.devices.opencl.runtime.discovery import discover

        return [_opencl_entry(found) for found in discover()]
    except (ImportError, DeviceError) as error:
        return [DeviceListing("opencl", "OpenCL", None, None, None, str(error))]


def _opencl_entry(found: Found) -> DeviceListing:
    from ggrpc.devices.opencl.runtime.discovery import why_not

    free, total = None, found.total
    if found.is_cpu:  # whose memory is the machine's, whatever a driver may say
        (cpu,) = _cpu_entries()
        free, total = cpu.free, cpu.total or total
    name, description = found.name, found.description
    return DeviceListing(name, description, free, total, found.largest, why_not(found))
