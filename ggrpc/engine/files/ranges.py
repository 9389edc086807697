"""Reads of ranges of a file.

Files are not mapped: if a mapped file is truncated, the process gets SIGBUS.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ggrpc.errors import FileError

PIECE = 16 << 20  # bytes of a tensor to read, send or compare at a time
AT_ONCE = 4 << 20  # bytes of one system call


class FileChangedError(FileError):
    """A file ends early or changed while it was read."""


def read_at(fd: int, at: int, view: memoryview, path: Path) -> None:
    """Fill `view` with the bytes of a file from `at` on.

    Raises:
        FileChangedError: the file ends early.
        OSError: the file cannot be read.
    """
    while len(view):
        count = os.preadv(fd, [view[:AT_ONCE]], at)
        if not count:
            raise FileChangedError(f"{path} ends {len(view)} bytes early")
        view, at = view[count:], at + count


class FileRange(NamedTuple):
    """Some bytes of a file.

    Attributes:
        path: the path of the file.
        at: the offset of the first byte.
        size: the number of bytes.
    """

    path: Path
    at: int
    size: int

    def read(self) -> memoryview:
        """All the bytes.

        Raises:
            FileChangedError: the file has become shorter.
            FileError: the file cannot be read.
        """
        return next(self._pieces(max(1, self.size)), memoryview(b""))

    def pieces(self) -> Iterator[memoryview]:
        """The bytes in pieces of PIECE bytes. A piece is valid until the next one.

        Raises:
            FileChangedError: the file has become shorter.
            FileError: the file cannot be read.
        """
        return self._pieces(PIECE)

    def _pieces(self, most: int) -> Iterator[memoryview]:
        scratch = memoryview(bytearray(min(most, self.size)))
        try:
            with open(self.path, "rb", buffering=0) as file:
                for start in range(0, self.size, most):
                    piece = scratch[: self.size - start]
                    read_at(file.fileno(), self.at + start, piece, self.path)
                    yield piece
        except OSError as error:
            raise FileError(f"cannot read {self.path}: {error.strerror}") from None
