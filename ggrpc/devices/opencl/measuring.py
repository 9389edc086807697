"""Measures one driver, in a process of its own: `rivals.py` starts it."""

from __future__ import annotations

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl.device import OpenClDevice
from ggrpc.devices.opencl.runtime.discovery import discover, unusable_reason
from ggrpc.devices.opencl.tuning import measure_speed, measure_unless_known


def main(name: str) -> int:
    """Measure the device with a name, and return the exit code."""
    for found in discover():
        if found.name == name and not unusable_reason(found):
            with OpenClDevice(found, CpuDevice(weight_cache=0)) as device:
                measure_unless_known(device, lambda: False)
                measure_speed(device)
                return 0
    return 1
