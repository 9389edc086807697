"""Measures the drivers of the processor if it has several, to choose the fastest.

A process of its own measures each. So a driver that fails ends no other process, and
all are measured alike: the threads of this process differ in their priorities.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable, Sequence

import pyopencl as cl

from ggrpc.devices.opencl.runtime import other_process, speed
from ggrpc.devices.opencl.runtime.build import POCL
from ggrpc.devices.opencl.runtime.discovery import Found, discover
from ggrpc.errors import DeviceError

MEASURING = "ggrpc.devices.opencl.measuring"
POLL_SECONDS = 0.2
MIN_GAIN = 1.05  # of a driver over the one that comes first; less may be noise

log = logging.getLogger(__name__)


def fastest(processors: Sequence[Found]) -> Found:
    """The driver to use for a processor: PoCL, unless another is known to be faster.

    Args:
        processors: the usable drivers of the processor, at least one.
    """
    if len(processors) == 1:
        return processors[0]
    first, *others = sorted(processors, key=lambda f: f.device.platform.name != POCL)
    times = [speed.known(found.device) for found in (first, *others)]
    known = [time for time in times if time is not None]
    if len(known) < len(times):
        return first
    best = min(known)
    if best * MIN_GAIN > known[0]:
        return first
    return (first, *others)[known.index(best)]


def measure(
    own: cl.Device, stopped: Callable[[], bool], busy: Callable[[], bool]
) -> None:
    """Measure each driver of the processor that was never measured, if it has several.

    Args:
        own: the device of this process.
        stopped: whether to return soon.
        busy: whether sessions compute, which spoils a measurement. It is then left for
            the next start.

    Raises:
        DeviceError: a driver failed, or the process cannot be started.
    """
    processors = [found for found in discover() if found.is_cpu]
    unknown = [found for found in processors if speed.known(found.device) is None]
    if len(processors) == 1 or not unknown:
        return
    for found in unknown:
        if not _measured(found, lambda: stopped() or busy()):
            return
    if (best := fastest(processors)).device != own:
        log.info(
            "%s, %s, is faster: the next 'ggrpc serve' without --device uses it",
            best.name,
            best.description,
        )


def _measured(found: Found, disturbed: Callable[[], bool]) -> bool:
    """Whether another process came to an end with measuring a driver."""
    try:
        process = other_process.start(MEASURING, found.name)
    except OSError as error:
        raise DeviceError(f"{found.name} cannot be measured: {error}") from error
    while not disturbed():
        try:
            process.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        if speed.known(found.device) is None:
            speed.store(found.device, speed.FAILED)
        return True
    process.kill()
    process.wait()
    return False
