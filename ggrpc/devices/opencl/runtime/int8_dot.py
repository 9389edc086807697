"""Finds out which int8 dot product instructions the kernels may use on a CPU.

The driver does not report them: PoCL, for example, compiles for a family of processors,
and not all of these have the instructions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.runtime.build import Builder
from ggrpc.devices.opencl.runtime.signals import signals_blocked
from ggrpc.errors import DeviceError

CPUINFO = Path("/proc/cpuinfo")

# The flags that a processor must have for each define of kernels/cpu/simd.h, fastest
# first.
REQUIRED_FLAGS = {
    "VNNI": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "AVX2": {"avx2", "f16c", "fma"},
}

# Operands to test with: extreme values, whose pairs of products just fit int16, and
# ordinary values.
UNSIGNED = np.tile(np.array([127, 127, 127, 127, 1, 2, 3, 100], np.uint8), 8)
SIGNED = np.tile(np.array([-128, -128, -128, -128, 5, -6, 7, -8], np.int8), 8)


def int8_dot(device: cl.Device, cpuinfo: Path = CPUINFO) -> str:
    """The fastest dot product that the processor has and the driver computes correctly.

    Args:
        device: a CPU.
        cpuinfo: the file with the processor's flags. If it cannot be read, the result
            is "", because an instruction that the processor lacks kills this process.

    Returns:
        A key of `REQUIRED_FLAGS` for kernels to define, or "" for portable code.
    """
    try:
        lines = [set(line.split()) for line in cpuinfo.read_text().splitlines()]
        for name, flags in REQUIRED_FLAGS.items():
            if any(flags <= line for line in lines) and _is_correct(device, name):
                return name
    except OSError:
        pass
    return ""


@signals_blocked()
def _is_correct(device: cl.Device, name: str) -> bool:
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
    expected = (UNSIGNED.astype(np.int32) * SIGNED).reshape(16, 4).sum(-1)
    return np.array_equal(dots, expected)
