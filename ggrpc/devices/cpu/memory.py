"""Large pieces of memory, straight from the system and straight back to it.

What the allocator of C hands out it may keep for itself when it is freed, in pieces
between what is still in use; a worker runs for days, and must not grow by that.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

HUGE_PAGE = 2 << 20


def mapped(size: int) -> mmap.mmap:
    """Memory of `size` bytes (1 at least), all zeros, taken when first touched.

    It begins at a page. The system has it back when the last view of it is gone.

    Raises:
        MemoryError: there is not that much.
    """
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        mapping = mmap.mmap(-1, max(size, 1), flags=private)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no {size} bytes to be had: {error}") from error
    if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel built without them
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping
