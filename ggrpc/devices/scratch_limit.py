"""The limit on a program's scratch memory, the same for every device."""

from __future__ import annotations

from ggrpc.errors import OutOfMemory
from ggrpc.units import format_size

# Any program may use the base, in bytes, and on top of it this multiple of its buffers.
# A model's graphs need a fraction of its weights; only an attack needs more.
SCRATCH_BASE = 256 << 20
SCRATCH_FACTOR = 8


def check_scratch_size(wanted: int, buffers: int) -> None:
    """Check the scratch memory of a program, in bytes, against that of its buffers.

    Raises:
        OutOfMemory: it is out of proportion.
    """
    limit = SCRATCH_BASE + SCRATCH_FACTOR * buffers
    if wanted > limit:
        raise OutOfMemory(
            f"a graph needs {format_size(wanted)} of scratch memory; with "
            f"{format_size(buffers)} of buffers it may have {format_size(limit)}"
        )
