"""Finds the OpenCL devices that this machine's drivers offer."""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl

from ggrpc.errors import DeviceError


class Found(NamedTuple):
    """An OpenCL device.

    Attributes:
        name: `opencl:N`, counted over all drivers.
        description: what the driver calls the device, and itself.
        total: bytes of its memory.
    """

    name: str
    description: str
    total: int


def discover() -> list[Found]:
    """Every device of every driver; none where no driver is installed.

    Raises:
        DeviceError: a driver is broken.
    """
    try:
        return [
            Found(f"opencl:{number}", _description(device), device.global_mem_size)
            for number, device in enumerate(_devices())
        ]
    except cl.Error as error:
        raise DeviceError(f"an OpenCL driver failed: {error}") from error


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
