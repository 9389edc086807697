"""Finds out which int8 dot product instructions the kernels may use on a CPU.

The driver does not report them: PoCL, for example, compiles for a family of processors,
and not all of these have the instructions. So a small kernel tries them. Intel's
compiler aborts the process if it cannot compile that kernel: another process tries it.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.runtime import discovery, disk_cache, other_process
from ggrpc.devices.opencl.runtime.build import POCL, Builder, source_text
from ggrpc.devices.opencl.runtime.signals import signals_blocked
from ggrpc.errors import DeviceError

CPUINFO = Path("/proc/cpuinfo")
PROGRAM = "int8_dot"
SECONDS = 60.0  # after which the other process counts as failed
CORRECT, WRONG = 0, 3  # its exit codes

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
    except OSError:
        return ""
    try_out = _is_correct if device.platform.name == POCL else _is_correct_elsewhere
    for name, flags in REQUIRED_FLAGS.items():
        if any(flags <= line for line in lines) and try_out(device, name):
            return name
    return ""


@signals_blocked()
def _is_correct(device: cl.Device, name: str) -> bool:
    """Whether the driver builds the kernel for a define, and computes it correctly."""
    try:
        context = cl.Context([device])
        queue = cl.CommandQueue(context)
        flags = cl.mem_flags.READ_ONLY | cl.mem_flags.COPY_HOST_PTR
        w, x = (cl.Buffer(context, flags, hostbuf=b) for b in (UNSIGNED, SIGNED))
        expected = _expected()
        results = np.zeros_like(expected)
        y = cl.Buffer(context, cl.mem_flags.WRITE_ONLY, results.nbytes)
        program = Builder(context).program(PROGRAM, **{name: 1})
        cl.Kernel(program, "dots")(queue, (1,), (1,), w, x, y)
        cl.enqueue_copy(queue, results, y)
    except (cl.Error, DeviceError):
        return False
    return np.array_equal(results, expected)


def _expected() -> np.ndarray:
    dots = (UNSIGNED.astype(np.int32) * SIGNED).reshape(16, 4).sum(-1, dtype=np.int32)
    squares = ((UNSIGNED & 15) ** 2).view(np.int32)
    floats = SIGNED.view(np.float16)[:16].astype(np.float32).view(np.int32)
    return np.stack([dots, dots, squares, floats])


def _is_correct_elsewhere(device: cl.Device, name: str) -> bool:
    """The same, found out by another process, once for each driver and kernel."""
    parts = disk_cache.identity(device), source_text(f"{PROGRAM}.cl"), name
    file = f"dots-{sha256(chr(0).join(parts).encode()).hexdigest()[:16]}"
    known = disk_cache.load(file)
    if known is None:
        code = _try_elsewhere(device, name)
        known = b"1" if code == CORRECT else b"0"
        if code is not None:  # a busy machine may have more time at the next start
            disk_cache.store(file, known)
    return known == b"1"


def _try_elsewhere(device: cl.Device, name: str) -> int | None:
    """The exit code of the other process; None if it did not come to an end."""
    try:
        process = other_process.start(__name__, device.platform.name, name)
    except OSError:
        return None
    return other_process.exit_code(process, SECONDS)


def main(platform: str, name: str) -> int:
    """Try a define on the processor of a driver, and return the exit code.

    The name of the device may differ here: PoCL has another one for a single thread.
    """
    for found in discovery.discover():
        if found.is_cpu and found.device.platform.name == platform:
            return CORRECT if _is_correct(found.device, name) else WRONG
    return WRONG
