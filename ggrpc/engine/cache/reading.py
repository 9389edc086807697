"""Moves bytes from a file straight into their place, and checks them on the way.

Files are read, not mapped: a mapped file that somebody cuts short kills the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from zlib_ng import zlib_ng

from ggrpc.engine.cache.fnv1a import Hasher
from ggrpc.engine.cache.index import Stamp
from ggrpc.errors import GgrpcError

PIECE = 4 << 20  # bytes; checked while they are still in the processor's cache
HASHED = 16 << 20  # bytes; what a device hashes at once


class TornError(GgrpcError):
    """A file ends early, or changed while it was read."""


def crc_of(view: memoryview, crc: int = 0) -> int:
    """The CRC-32 of bytes, after others of which it was `crc`."""
    return zlib_ng.crc32(view, crc)


def read_at(fd: int, at: int, view: memoryview, path: Path) -> None:
    """Fill `view` with a file's bytes from `at` on.

    Raises:
        TornError: there are not so many.
        OSError: they cannot be read.
    """
    while len(view):
        count = os.preadv(fd, [view[:PIECE]], at)
        if not count:
            raise TornError(f"{path} ends {len(view)} bytes early")
        view, at = view[count:], at + count


def read_checked(fd: int, at: int, view: memoryview, path: Path) -> int:
    """Fill `view`, as `read_at` does.

    Returns:
        The CRC-32 of the bytes.
    """
    crc = 0
    for start in range(0, len(view), PIECE):
        piece = view[start : start + PIECE]
        read_at(fd, at + start, piece, path)
        crc = crc_of(piece, crc)
    return crc


def scan(
    fd: int,
    at: int,
    size: int,
    path: Path,
    hasher: Hasher,
    moved: Callable[[int], None] = lambda count: None,
) -> tuple[int, int]:
    """Go over bytes of a file.

    Args:
        fd: the file, open.
        at: the first byte.
        size: how many.
        path: the file's.
        hasher: a new one.
        moved: called with numbers of bytes that are done; may raise.

    Returns:
        Their hash and their CRC-32.

    Raises:
        TornError: there are not so many.
        OSError: they cannot be read.
    """
    crc = 0
    scratch = memoryview(bytearray(min(HASHED, size)))
    for start in range(0, size, HASHED):
        piece = scratch[: size - start]
        read_at(fd, at + start, piece, path)
        hasher.update(piece)
        crc = crc_of(piece, crc)
        moved(len(piece))
    return hasher.value, crc


def set_used(path: Path, used_ns: int, written_ns: int) -> None:
    """Note when a file was used; where others own it, that stays as it is."""
    with suppress(OSError):
        os.utime(path, ns=(used_ns, written_ns))


def check_unchanged(fd: int, stamp: Stamp, path: Path) -> None:
    """See that a file is what it was.

    Raises:
        TornError: it is not.
    """
    if Stamp.of(os.fstat(fd)) != stamp:
        raise TornError(f"{path} changed while it was read")
