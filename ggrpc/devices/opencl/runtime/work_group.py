"""The sizes of work-groups: what kernels need, and what a device allows."""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl


class WorkGroup(NamedTuple):
    """The size of a work-group, or the largest one that is allowed.

    Attributes:
        items: the number of work-items.
        local_memory: the size of the local memory in bytes.
    """

    items: int
    local_memory: int

    def fits(self, most: WorkGroup) -> bool:
        """Whether a work-group is as large as allowed, or smaller."""
        return self.items <= most.items and self.local_memory <= most.local_memory

    def __str__(self) -> str:
        return f"{self.items} work-items and {self.local_memory / 1024:g} KiB"


def max_group_of(device: cl.Device) -> WorkGroup:
    """The largest work-group of a device; its kernels may allow less."""
    items = min(device.max_work_group_size, device.max_work_item_sizes[0])
    return WorkGroup(items, device.local_mem_size)


def group_of(kernel: cl.Kernel, device: cl.Device) -> WorkGroup:
    """The work-items that a kernel's registers allow, and its own local memory."""
    info = cl.kernel_work_group_info
    return WorkGroup(
        kernel.get_work_group_info(info.WORK_GROUP_SIZE, device),
        kernel.get_work_group_info(info.LOCAL_MEM_SIZE, device),
    )
