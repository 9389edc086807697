"""Finds the OpenCL devices of this machine, and tests whether they work."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.runtime import packaged_driver
from ggrpc.devices.opencl.runtime.build import Builder, first_line
from ggrpc.devices.opencl.runtime.signals import signals_blocked
from ggrpc.errors import DeviceError

NUMBERS = np.arange(64, dtype=np.int32)


class Found(NamedTuple):
    """An OpenCL device.

    Attributes:
        name: `opencl:N`, where N counts the devices of all drivers.
        description: the name of the device and, in brackets, of the driver.
        total: the size of its memory in bytes.
        largest: the size of the largest buffer in bytes.
        is_cpu: whether its type is CL_DEVICE_TYPE_CPU: the processor of this machine.
        device: the object of pyopencl.
    """

    name: str
    description: str
    total: int
    largest: int
    is_cpu: bool
    device: cl.Device


def discover() -> list[Found]:
    """All devices of all drivers; an empty list if no driver is installed.

    Raises:
        DeviceError: a driver failed.
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


@signals_blocked()
def unusable_reason(found: Found) -> str | None:
    """Why a device cannot be used; None if it builds and runs a small kernel.

    Some drivers list processors that they cannot build for.
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
        return f"its driver failed on a small kernel: {first_line(error)}"
    if not np.array_equal(numbers, 2 * NUMBERS):
        return "its driver computed a small kernel wrongly"
    return None


def _devices() -> list[cl.Device]:
    try:
        # Drivers start their threads here.
        with signals_blocked(), packaged_driver.visible():
            platforms = cl.get_platforms()
            return [device for each in platforms for device in each.get_devices()]
    except cl.LogicError as error:
        if error.code == cl.status_code.PLATFORM_NOT_FOUND_KHR:
            return []
        raise


def _description(device: cl.Device) -> str:
    text = f"{device.name} ({device.platform.name})"
    return " ".join(text.split())  # some drivers pad names with spaces
