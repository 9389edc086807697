"""What an OpenCL device is like, as far as kernels and their launches depend on it."""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.runtime.int8_dot import int8_dot
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig, launch_config_of


class Traits(NamedTuple):
    """Facts of a device.

    Attributes:
        is_cpu: whether its kernels are those written for processors, by the
            extensions of their compilers; all others get plain OpenCL C.
        shares_memory: whether its kernels work on this process's own memory.
        units: how many work-groups run at once.
        local_size: work-items of a group that share the work on a row: one where a
            work-item is a thread of a processor, which has wide vectors instead.
        int8_dot: what a processor has for dot products of bytes, as kernels know it;
            "" where they must do without.
        launch_config: how kernels share out their work.
    """

    is_cpu: bool
    shares_memory: bool
    units: int
    local_size: int
    int8_dot: str
    launch_config: LaunchConfig = LaunchConfig()

    def groups(self, tasks: int) -> int:
        """Work-groups to share so many tasks: enough of them to even out."""
        return max(1, min(-(-tasks // self.local_size), 16 * self.units))


def traits_of(device: cl.Device) -> Traits:
    """What a device says about itself."""
    is_cpu = bool(device.type & cl.device_type.CPU)
    return Traits(
        is_cpu,
        is_cpu,
        device.max_compute_units,
        1 if is_cpu else min(64, device.max_work_group_size),
        int8_dot(device) if is_cpu else "",
        launch_config_of(device),
    )
