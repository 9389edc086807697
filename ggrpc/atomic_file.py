"""Atomic replacement of files: readers see the old contents or the new, never a part.

The new contents are written to a temporary file beside the target, which is then
renamed. The file is not synced to the disk: after a power cut it may be empty.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

SHARED = 0o666  # before the umask, as `open` does
PRIVATE = 0o600


@contextmanager
def replacing(path: Path, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends.

    If the block raises, the new file is removed and `path` stays as it was. If several
    processes write at once, the last one wins.

    Args:
        path: the target; its folder must exist.
        mode: the permissions of the new file, before the umask.

    Raises:
        OSError: the file cannot be written or renamed.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, mode)

    file = open(beside, "xb", opener=opener)  # noqa: SIM115  closed below
    try:
        with file:
            yield file
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise
