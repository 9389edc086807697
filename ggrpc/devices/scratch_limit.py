"""Limits the scratch memory of a program, in the same way for every device."""

from __future__ import annotations

from ggrpc.errors import OutOfMemory
from ggrpc.units import format_size

# A program may use the base, in bytes, plus this multiple of the size of its buffers.
# Graphs of real models need a fraction of the size of their weights.
SCRATCH_BASE = 256 << 20
SCRATCH_FACTOR = 8


def check_scratch_size(wanted: int, buffers: int) -> None:
    """Check the scratch memory of a program against the size of its buffers.

    Args:
        wanted: the size of the scratch memory in bytes.
        buffers: the total size of the buffers in bytes.

    Raises:
        OutOfMemory: the program needs more than the limit.
    """
    limit = SCRATCH_BASE + SCRATCH_FACTOR * buffers
    if wanted > limit:
        raise OutOfMemory(
            f"a graph needs {format_size(wanted)} of scratch memory; with "
            f"{format_size(buffers)} of buffers the limit is {format_size(limit)}"
        )
