"""Reads files, and computes checksums and hashes of the bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zlib_ng import zlib_ng

from ggrpc.engine.cache.fnv1a import Hasher
from ggrpc.engine.cache.index import Stamp
from ggrpc.engine.files.ranges import FileChangedError, read_at

PIECE = 4 << 20  # bytes; small enough to stay in the processor's cache for the checksum
HASH_PIECE = 16 << 20  # bytes; large enough to hash on a device

OnProgress = Callable[[int], None]  # called with a number of bytes; may raise


def crc32(view: memoryview, crc: int = 0) -> int:
    """The CRC-32 of `view`; `crc` is the CRC-32 of the bytes before it."""
    return zlib_ng.crc32(view, crc)


def read_checked(fd: int, at: int, view: memoryview, path: Path) -> int:
    """Fill `view` like `read_at`, and compute the checksum.

    Returns:
        The CRC-32 of the bytes.

    Raises:
        FileChangedError: the file ends early.
        OSError: the file cannot be read.
    """
    crc = 0
    for start in range(0, len(view), PIECE):
        piece = view[start : start + PIECE]
        read_at(fd, at + start, piece, path)
        crc = crc32(piece, crc)
    return crc


def scan(
    fd: int,
    at: int,
    size: int,
    path: Path,
    hasher: Hasher,
    on_progress: OnProgress = lambda count: None,
) -> tuple[int, int]:
    """Hash a range of a file.

    Args:
        fd: the open file.
        at: the offset of the first byte.
        size: the number of bytes.
        path: the path of the file.
        hasher: a new hasher.
        on_progress: called with the size of each piece.

    Returns:
        The FNV-1a hash and the CRC-32.

    Raises:
        FileChangedError: the file ends early.
        OSError: the file cannot be read.
    """
    crc = 0
    scratch = memoryview(bytearray(min(HASH_PIECE, size)))
    for start in range(0, size, HASH_PIECE):
        piece = scratch[: size - start]
        read_at(fd, at + start, piece, path)
        hasher.update(piece)
        crc = crc32(piece, crc)
        on_progress(len(piece))
    return hasher.value, crc


def set_used(path: Path, used_ns: int, written_ns: int) -> None:
    """Set atime and mtime of a file; does nothing if another user owns it."""
    with suppress(OSError):
        os.utime(path, ns=(used_ns, written_ns))


def check_unchanged(fd: int, stamp: Stamp, path: Path) -> None:
    """Check that a file has not changed since its stamp was taken.

    Raises:
        FileChangedError: the file changed.
    """
    if Stamp.of(os.fstat(fd)) != stamp:
        raise FileChangedError(f"{path} changed while it was read")
