"""Maps large blocks of memory directly from the system.

The C allocator may not return freed memory to the system, because of fragmentation. A
server that runs for days would grow.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

HUGE_PAGE = 2 << 20


def mapped(size: int) -> mmap.mmap:
    """Map memory that is all zeros and aligned to a page.

    The system allocates a page when it is first touched. The memory is unmapped when
    the last view of it is deleted.

    Args:
        size: the size in bytes; 0 maps one byte.

    Raises:
        MemoryError: the system refuses to map that much.
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        mapping = mmap.mmap(-1, max(size, 1), flags=private)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MemoryError(f"cannot map {size} bytes: {reason}") from error
    if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # the kernel may not support huge pages
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping
