"""Finds the OpenCL devices that this machine's drivers offer, and proves each one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.runtime.build import Builder, first_line
from ggrpc.errors import DeviceError

NUMBERS = np.arange(64, dtype=np.int32)


class Found(NamedTuple):
    """An OpenCL device.

    Attributes:
        name: `opencl:N`, counted over all drivers.
        description: what the driver calls the device, and itself.
        total: bytes of its memory.
        largest: bytes of the largest buffer.
        is_cpu: whether it is the processor that runs this process.
        device: pyopencl's own object.
    """

    name: str
    description: str
    total: int
    largest: int
    is_cpu: bool
    device: cl.Device


def discover() -> list[Found]:
    """Every device of every driver; none where no driver is installed.

    Raises:
        DeviceError: a driver is broken.
    """
    try:
        return [
            Found(
                f"opencl:{number}",
                _description(device),
                device.global_mem_size,
                device.max_mem_alloc_size,
                bool(device.type & cl.device_type.CPU),
                device,
            )
            for number, device in enumerate(_devices())
        ]
    except cl.Error as error:
        raise DeviceError(f"an OpenCL driver failed: {first_line(error)}") from error


def why_not(found: Found) -> str | None:
    """Build a small kernel and run it; why that failed, None where it did not.

    Drivers are met that list a processor and cannot build for it.
    """
    try:
        context = cl.Context([found.device])
        queue = cl.CommandQueue(context)
        numbers = NUMBERS.copy()
        flags = cl.mem_flags.READ_WRITE | cl.mem_flags.COPY_HOST_PTR
        buffer = cl.Buffer(context, flags, hostbuf=numbers)
        twice = cl.Kernel(Builder(context).program("proof"), "twice")
        twice(queue, numbers.shape, None, buffer)
        cl.enqueue_copy(queue, numbers, buffer)
        queue.finish()
    except (cl.Error, DeviceError) as error:
        return f"its driver failed a small kernel: {first_line(error)}"
    if not np.array_equal(numbers, 2 * NUMBERS):
        return "its driver computed a small kernel wrongly"
    return None


def _devices() -> list[cl.Device]:
    try:
        platforms = cl.get_platforms()
    except cl.LogicError as error:
        if error.code == cl.status_code.PLATFORM_NOT_FOUND_KHR:
            return []
        raise
    return [device for platform in platforms for device in platform.get_devices()]


def _description(device: cl.Device) -> str:
    text = f"{device.name} ({device.platform.name})"
    return " ".join(text.split())  # some drivers pad names with blanks
