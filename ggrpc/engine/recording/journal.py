"""Writes and reads the events of a recording: connections, messages, and their times.

Each event is one chunk or several (see `chunk_file`). Numbers are little-endian. Times
are in nanoseconds since the recording began.

    OPENED   connection u32 | time u64 | JSON: client, server
    MESSAGE  connection u32 | time u64 | from server u8 | command u8 | size u64 | bytes
    PART     connection u32 | from server u8 | bytes
    OMITTED  connection u32 | from server u8 | size u64 | FNV-1a u64, 0 for none
    CLOSED   connection u32 | time u64 | by the server u8

A MESSAGE is a request or a reply as it was on the wire, without its header. If it holds
fewer than `size` bytes, the rest follows in PARTs or is OMITTED. A reply belongs to the
oldest request of its connection that has no reply yet.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ggrpc.closable import Closable
from ggrpc.engine.recording.chunk_file import (
    Bytes,
    Chunk,
    ChunkReader,
    ChunkWriter,
    damaged,
)
from ggrpc.errors import RecordingError

OPENED, MESSAGE, PART, OMITTED, CLOSED = range(1, 6)

_OPENED = struct.Struct("<IQ")
_MESSAGE = struct.Struct("<IQBBQ")
_PART = struct.Struct("<IB")
_OMITTED = struct.Struct("<IBQQ")
_CLOSED = struct.Struct("<IQB")


class JournalWriter:
    """Writes the events of connections.

    Args:
        chunks: the file to write to.
    """

    def __init__(self, chunks: ChunkWriter) -> None:
        self._chunks = chunks
        self._began = time.perf_counter_ns()

    def opened(self, connection: int, client: str, server: str) -> None:
        """Write that a client connected.

        Args:
            connection: the number of the connection.
            client: the name of the client.
            server: the name of the server.

        Raises:
            RecordingError: the file cannot be written.
        """
        about = json.dumps({"client": client, "server": server}).encode()
        head = _OPENED.pack(connection, self._now())
        self._chunks.append(OPENED, head, about)

    def message(
        self, connection: int, from_server: bool, command: int, size: int, data: Bytes
    ) -> None:
        """Write the start of a message.

        Args:
            connection: the number of the connection.
            from_server: whether the message is a reply.
            command: the command of a request; 0 for a reply.
            size: the size of the payload in bytes.
            data: the first bytes of the payload, or all of them.

        Raises:
            RecordingError: the file cannot be written.
        """
        head = _MESSAGE.pack(connection, self._now(), from_server, command, size)
        self._chunks.append(MESSAGE, head, data)

    def part(self, connection: int, from_server: bool, data: Bytes) -> None:
        """Write the next bytes of a message.

        Raises:
            RecordingError: the file cannot be written.
        """
        self._chunks.append(PART, _PART.pack(connection, from_server), data)

    def omitted(self, connection: int, from_server: bool, size: int, hash: int) -> None:
        """Write that the rest of a message is not recorded.

        Args:
            connection: the number of the connection.
            from_server: whether the message is a reply.
            size: the number of bytes that are not recorded.
            hash: the FNV-1a hash of these bytes; 0 if it is unknown.

        Raises:
            RecordingError: the file cannot be written.
        """
        self._chunks.append(OMITTED, _OMITTED.pack(connection, from_server, size, hash))

    def closed(self, connection: int, by_server: bool) -> None:
        """Write that a connection ended.

        Raises:
            RecordingError: the file cannot be written.
        """
        self._chunks.append(CLOSED, _CLOSED.pack(connection, self._now(), by_server))

    def _now(self) -> int:
        return time.perf_counter_ns() - self._began


class Opened(NamedTuple):
    """A client connected."""

    connection: int
    time: int
    client: str
    server: str


class Closed(NamedTuple):
    """A connection ended."""

    connection: int
    time: int
    by_server: bool


class Omitted(NamedTuple):
    """Bytes at the end of a message that the recording lacks.

    Attributes:
        size: the number of bytes.
        hash: their FNV-1a hash; 0 if it was not computed.
    """

    size: int
    hash: int


@dataclass
class Message:
    """A request or a reply.

    Attributes:
        connection: the number of the connection.
        time: the time of its first byte, in nanoseconds since the recording began.
        from_server: whether it is a reply.
        command: the command of a request; 0 for a reply.
        size: the size of its payload on the wire in bytes.
        omitted: the bytes that are not recorded; None if all are.
        reader: reads its chunks.
        chunks: the chunks with its bytes, and the offset of the bytes in each payload.
        left: the number of bytes whose chunks have not been found yet.
    """

    connection: int
    time: int
    from_server: bool
    command: int
    size: int
    omitted: Omitted | None = None
    reader: ChunkReader | None = None
    chunks: list[tuple[Chunk, int]] = field(default_factory=list)
    left: int = 0

    def parts(self) -> Iterator[bytes]:
        """The recorded bytes of the payload, piece by piece.

        Raises:
            RecordingError: a checksum is wrong.
        """
        assert self.reader is not None
        for chunk, skip in self.chunks:
            yield self.reader.read(chunk)[skip:]

    def payload(self) -> bytes:
        """The recorded bytes of the payload.

        Raises:
            RecordingError: a checksum is wrong.
        """
        return b"".join(self.parts())

    def head(self, size: int) -> bytes:
        """The first `size` bytes of the payload, or fewer if it is shorter.

        Raises:
            RecordingError: a checksum is wrong.
        """
        found = b""
        for part in self.parts():
            found += part[: size - len(found)]
            if len(found) == size:
                break
        return found

    def tail(self, start: int) -> Iterator[bytes]:
        """The recorded bytes from offset `start` on, piece by piece.

        Raises:
            RecordingError: a checksum is wrong.
        """
        for part in self.parts():
            yield part[start:]
            start = max(0, start - len(part))


Event = Opened | Message | Closed


class Journal(Closable):
    """Reads a recording; a context manager.

    Args:
        path: the file.

    Attributes:
        path: the file.
        size: the size of the file in bytes.
        moved: called with the size of each chunk that was read.
        cut: whether the file ends inside a chunk or a message; valid after all events
            were read.

    Raises:
        RecordingError: the file is not a recording, has a newer format or cannot be
            read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = False
        self.moved: Callable[[int], None] = lambda size: None
        self._reader = ChunkReader(path)
        self.size = self._reader.size

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def verify(self) -> None:
        """Read the whole file, and check every checksum.

        Raises:
            RecordingError: a checksum is wrong.
        """
        for chunk in self._reader.chunks():
            self._reader.read(chunk)

    def events(self) -> Iterator[Event]:
        """All events, in order; a message comes at the position of its last byte.

        Raises:
            RecordingError: the file is damaged.
        """
        pending: dict[tuple[int, bool], Message] = {}
        for chunk in self._reader.chunks():
            self.moved(chunk.size)
            if chunk.kind == OPENED:
                yield self._opened(chunk)
            elif chunk.kind == CLOSED:
                closed = self._closed(chunk)
                for from_server in (False, True):  # drop incomplete messages
                    pending.pop((closed.connection, from_server), None)
                yield closed
            else:
                message = self._message(chunk, pending)
                if message is not None:
                    yield message
        self.cut = self._reader.cut or bool(pending)

    def _opened(self, chunk: Chunk) -> Opened:
        payload = self._reader.read(chunk)
        connection, time = self._fields(_OPENED, chunk, payload)
        try:
            about = json.loads(payload[_OPENED.size :])
            return Opened(connection, time, about["client"], about["server"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise self._damaged(chunk, "do not name a client and a server") from None

    def _closed(self, chunk: Chunk) -> Closed:
        payload = self._reader.read(chunk)
        connection, time, by_server = self._fields(_CLOSED, chunk, payload)
        return Closed(connection, time, bool(by_server))

    def _message(
        self, chunk: Chunk, pending: dict[tuple[int, bool], Message]
    ) -> Message | None:
        """Add a chunk to its message; returns the message once it is complete."""
        if chunk.kind == MESSAGE:
            message, size = self._begin(chunk)
        else:
            message, size = self._continue(chunk, pending)
        key = message.connection, message.from_server
        # Each side completes a message before it starts the next one.
        if size > message.left or pending.get(key, message) is not message:
            raise self._damaged(chunk, "do not belong to a message")
        message.left -= size
        if message.left:
            pending[key] = message
            return None
        pending.pop(key, None)
        return message

    def _begin(self, chunk: Chunk) -> tuple[Message, int]:
        """Create a message; returns it and how many of its bytes the chunk holds."""
        head = self._reader.peek(chunk, _MESSAGE.size)
        connection, time, server, command, size = self._fields(_MESSAGE, chunk, head)
        message = Message(connection, time, bool(server), command, size)
        message.reader, message.left = self._reader, size
        message.chunks.append((chunk, _MESSAGE.size))
        return message, chunk.size - _MESSAGE.size

    def _continue(
        self, chunk: Chunk, pending: dict[tuple[int, bool], Message]
    ) -> tuple[Message, int]:
        """Find the message that a chunk continues.

        Returns:
            The message, and how many of its bytes the chunk holds or omits.
        """
        layout = {PART: _PART, OMITTED: _OMITTED}.get(chunk.kind)
        if layout is None:
            raise self._damaged(chunk, f"are a chunk of unknown kind {chunk.kind}")
        head = self._reader.peek(chunk, layout.size)
        connection, server, *rest = self._fields(layout, chunk, head)
        message = pending.get((connection, bool(server)))
        if message is None:
            raise self._damaged(chunk, "do not belong to a message")
        if chunk.kind == PART:
            message.chunks.append((chunk, _PART.size))
            return message, chunk.size - _PART.size
        message.omitted = Omitted(*rest)
        return message, message.omitted.size

    def _fields(self, layout: struct.Struct, chunk: Chunk, payload: bytes) -> Any:
        if len(payload) < layout.size:
            raise self._damaged(chunk, "are too few for a chunk of their kind")
        return layout.unpack_from(payload)

    def _damaged(self, chunk: Chunk, what: str) -> RecordingError:
        self._reader.read(chunk)  # if the checksum is wrong, that is the better error
        return damaged(f"{self.path}: {chunk.size} bytes at {chunk.at} {what}")
