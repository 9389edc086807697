"""Finds out which of a processor's exact dot products of bytes kernels may use.

A driver such as PoCL compiles for a family of processors, which need not all have them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.runtime.build import Builder
from ggrpc.errors import DeviceError

CPUINFO = Path("/proc/cpuinfo")

# What a processor must say that it has: the best first. See kernels/simd.h.
NEEDED = {
    "VNNI": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "AVX2": {"avx2", "f16c", "fma"},
}

# Dots of four bytes, the first ones unsigned: what no pair of products can exceed, and
# nothing special.
UNSIGNED = np.tile(np.array([127, 127, 127, 127, 1, 2, 3, 100], np.uint8), 8)
SIGNED = np.tile(np.array([-128, -128, -128, -128, 5, -6, 7, -8], np.int8), 8)


def int8_dot(device: cl.Device, cpuinfo: Path = CPUINFO) -> str:
    """The best that the processor has, and the driver can build and gets right.

    Args:
        device: a processor.
        cpuinfo: what the processor says; without it, the answer is none. An instruction
            that the processor lacks would end this process.

    Returns:
        What kernels are to define: a key of `NEEDED`, or "" for portable code.
    """
    try:
        lines = [set(line.split()) for line in cpuinfo.read_text().splitlines()]
        for name, flags in NEEDED.items():
            if any(flags <= line for line in lines) and _is_right(device, name):
                return name
    except OSError:
        pass
    return ""


def _is_right(device: cl.Device, name: str) -> bool:
    try:
        context = cl.Context([device])
        queue = cl.CommandQueue(context)
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        w, x = (cl.Buffer(context, flags, hostbuf=b) for b in (UNSIGNED, SIGNED))
        dots = np.zeros(16, np.int32)
        result = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, dots.nbytes)
        program = Builder(context).program("int8_dot", **{name: 1})
        cl.Kernel(program, "dots")(queue, (1,), (1,), w, x, result)
        cl.enqueue_copy(queue, dots, result)
    except (cl.Error, DeviceError):
        return False
    right = (UNSIGNED.astype(np.int32) * SIGNED).reshape(16, 4).sum(-1)
    return np.array_equal(dots, right)
