"""The properties of a device that kernels and launches depend on."""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.runtime.int8_dot import int8_dot
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig, launch_config_of
from ggrpc.devices.opencl.runtime.work_group import WorkGroup, max_group_of


class Traits(NamedTuple):
    """The properties of a device.

    Attributes:
        is_cpu: whether the device uses the kernels for CPUs, which need extensions of
            clang; the kernels of all other devices are plain OpenCL C.
        shares_memory: whether kernels use the memory of this process in place.
        units: the number of compute units, each of which runs one work-group at a time.
        local_size: the work-items of a work-group that share a row; 1 on CPUs, whose
            work-items use wide vectors instead.
        int8_dot: the define that selects a CPU's int8 dot product; "" for portable
            code.
        max_group: the largest work-group that the device allows.
        launch_config: the tuned sizes of launches.
    """

    is_cpu: bool
    shares_memory: bool
    units: int
    local_size: int
    int8_dot: str
    max_group: WorkGroup
    launch_config: LaunchConfig = LaunchConfig()

    def groups(self, tasks: int) -> int:
        """The number of work-groups for some tasks: enough to balance the load."""
        return max(1, min(-(-tasks // self.local_size), 16 * self.units))


def traits_of(device: cl.Device) -> Traits:
    """The properties of a device, from its driver and from the tuning."""
    is_cpu = bool(device.type & cl.device_type.CPU)
    max_group = max_group_of(device)
    return Traits(
        is_cpu,
        is_cpu,
        device.max_compute_units,
        1 if is_cpu else min(64, max_group.items),
        int8_dot(device) if is_cpu else "",
        max_group,
        launch_config_of(device, None if is_cpu else max_group),
    )
