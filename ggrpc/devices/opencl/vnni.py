"""Finds out whether kernels may use VNNI: a processor's exact dot products of bytes.

A driver such as PoCL compiles for a family of processors, which need not all have it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.build import Builder
from ggrpc.errors import DeviceError

CPUINFO = Path("/proc/cpuinfo")
NEEDED = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}

# Dots of four bytes, the first ones unsigned: the extremes, and nothing special.
UNSIGNED = np.tile(np.array([255, 255, 255, 255, 1, 2, 3, 200], np.uint8), 8)
SIGNED = np.tile(np.array([-128, -128, -128, -128, 5, -6, 7, -8], np.int8), 8)


def has_vnni(device: cl.Device, cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor says so, and the driver can build it and gets it right.

    Args:
        device: a processor.
        cpuinfo: what the processor says; without it, the answer is no. An instruction
            that the processor lacks would end this process.
    """
    try:
        if not any(
            NEEDED <= set(line.split()) for line in cpuinfo.read_text().splitlines()
        ):
            return False
        return _is_right(cl.Context([device]))
    except (OSError, cl.Error, DeviceError):
        return False


def _is_right(context: cl.Context) -> bool:
    queue = cl.CommandQueue(context)
    flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
    w, x = (cl.Buffer(context, flags, hostbuf=bytes) for bytes in (UNSIGNED, SIGNED))
    dots = np.zeros(16, np.int32)
    result = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, dots.nbytes)
    kernel = cl.Kernel(Builder(context).program("vnni", VNNI=1), "dots")
    kernel(queue, (1,), (1,), w, x, result)
    cl.enqueue_copy(queue, dots, result)
    right = (UNSIGNED.astype(np.int32) * SIGNED).reshape(16, 4).sum(-1)
    return np.array_equal(dots, right)
