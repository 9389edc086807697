"""The file format of a recording: chunks, each with its length and checksum.

    header  "GGRPCREC" | version u32 | 0 u32
    chunk   kind u32 | length u64 | payload | CRC-32 of the chunk so far u32

All numbers are little-endian. A truncated file is valid up to its last complete chunk.
A reader can list chunks without reading their payloads.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from zlib_ng import zlib_ng

from ggrpc.closable import Closable
from ggrpc.errors import RecordingError

MAGIC = b"GGRPCREC"
VERSION = 1
_HEADER = struct.Struct("<8sII")
_HEAD = struct.Struct("<IQ")
_CRC = struct.Struct("<I")

Bytes = bytes | bytearray | memoryview


def damaged(what: str) -> RecordingError:
    """The error for a recording with invalid contents.

    Args:
        what: what is wrong, and in which file.
    """
    return RecordingError(f"{what}; the file is damaged, record it again")


class ChunkWriter:
    """Appends chunks to a new file.

    Args:
        path: the file to write.
        force: whether to replace an existing file.

    Raises:
        RecordingError: the file already exists, or cannot be written.
    """

    def __init__(self, path: Path, force: bool = False) -> None:
        try:
            self._file = path.open("wb" if force else "xb", buffering=0)
        except FileExistsError:
            raise RecordingError(
                f"{path} already exists: use --force to replace it"
            ) from None
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error.strerror}") from error
        self._path = path
        try:
            self._write([_HEADER.pack(MAGIC, VERSION, 0)])
        except RecordingError:
            self.close()
            raise

    def append(self, kind: int, *pieces: Bytes) -> None:
        """Write a chunk.

        Raises:
            RecordingError: the file cannot be written, such as on a full disk.
        """
        head = _HEAD.pack(kind, sum(map(len, pieces)))
        crc = zlib_ng.crc32(head)
        for piece in pieces:
            crc = zlib_ng.crc32(piece, crc)
        self._write([head, *pieces, _CRC.pack(crc)])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, pieces: list[Bytes]) -> None:
        """Write without buffering, so that a crash of the process loses nothing."""
        try:
            written = os.writev(self._file.fileno(), pieces)
            if written < sum(map(len, pieces)):
                rest = memoryview(b"".join(pieces))[written:]
                while len(rest):
                    rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise RecordingError(
                f"cannot write {self._path}: {error.strerror}; the file is valid up to "
                "here"
            ) from error


class Chunk(NamedTuple):
    """A chunk of a file.

    Attributes:
        kind: the kind of chunk.
        at: the offset of the payload in the file.
        size: the size of the payload in bytes.
    """

    kind: int
    at: int
    size: int


class ChunkReader(Closable):
    """Reads chunks; a context manager.

    Args:
        path: the file to read.

    Attributes:
        size: the size of the file in bytes.
        cut: whether the file ends inside a chunk; valid after all chunks were listed.

    Raises:
        RecordingError: the file is not a recording, has a newer format or cannot be
            read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cut = False
        try:
            self._file = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
            header = self._file.read(_HEADER.size)
        except OSError as error:
            raise RecordingError(f"cannot read {path}: {error.strerror}") from error
        try:
            self._check(header)
        except RecordingError:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def chunks(self) -> Iterator[Chunk]:
        """Every complete chunk, in order, without reading payloads."""
        at = _HEADER.size
        while at < self.size:
            head = self._bytes(at, _HEAD.size)
            if len(head) < _HEAD.size:
                break
            kind, size = _HEAD.unpack(head)
            end = at + _HEAD.size + size + _CRC.size
            if end > self.size:
                break
            yield Chunk(kind, at + _HEAD.size, size)
            at = end
        self.cut = at != self.size

    def read(self, chunk: Chunk) -> bytes:
        """Read a payload.

        Raises:
            RecordingError: the checksum is wrong.
        """
        size = _HEAD.size + chunk.size
        whole = self._bytes(chunk.at - _HEAD.size, size + _CRC.size)
        if _CRC.pack(zlib_ng.crc32(memoryview(whole)[:size])) != whole[size:]:
            raise damaged(
                f"{self._path}: the checksum of {chunk.size} bytes at {chunk.at} is "
                "wrong"
            )
        return whole[_HEAD.size : size]

    def peek(self, chunk: Chunk, size: int) -> bytes:
        """The first bytes of the payload, without checking the checksum."""
        return self._bytes(chunk.at, min(size, chunk.size))

    def _bytes(self, at: int, size: int) -> bytes:
        try:
            return os.pread(self._file.fileno(), size, at)
        except OSError as error:
            raise RecordingError(
                f"cannot read {self._path}: {error.strerror}"
            ) from error

    def _check(self, header: bytes) -> None:
        if len(header) < _HEADER.size or not header.startswith(MAGIC):
            raise RecordingError(f"{self._path} is not a recording of 'ggrpc record'")
        _, version, _ = _HEADER.unpack(header)
        if version > VERSION:
            raise RecordingError(
                f"{self._path} has format {version}, this ggrpc reads up to {VERSION}; "
                "install a newer ggrpc"
            )
