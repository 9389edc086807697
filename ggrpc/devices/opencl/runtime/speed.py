"""How fast a driver computes on a processor, kept on disk to choose among drivers."""

from __future__ import annotations

import math
from hashlib import sha256

import pyopencl as cl

from ggrpc.devices.opencl.runtime import disk_cache, launch_config

FAILED = math.inf  # the time of a driver that failed


def known(device: cl.Device) -> float | None:
    """The time that was measured for a device and its driver; None if there is none."""
    contents = disk_cache.load(_name(device))
    return None if contents is None else float(contents)


def store(device: cl.Device, milliseconds: float) -> None:
    """Store a time, if the cache folder is writable."""
    disk_cache.store(_name(device), str(milliseconds).encode())


def _name(device: cl.Device) -> str:
    parts = disk_cache.identity(device), str(launch_config.VERSION)
    return f"speed-{sha256(chr(0).join(parts).encode()).hexdigest()[:16]}"
