"""What a recording says: who connected, what each side sent, and when.

Chunks of a recording (see `chunks`), numbers little-endian, times in nanoseconds since
the recording began:

    OPENED   connection u32 | time u64 | JSON: client, server
    MESSAGE  connection u32 | time u64 | from server u8 | command u8 | size u64 | bytes
    PART     connection u32 | from server u8 | bytes
    OMITTED  connection u32 | from server u8 | size u64 | FNV-1a u64, 0 for none
    CLOSED   connection u32 | time u64 | by the server u8

A MESSAGE is a request or a reply as it was on the wire without its head; what of its
`size` bytes it does not hold follows in PARTs, or is OMITTED. A reply belongs to the
oldest request of its connection that has none yet.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ggrpc.engine.recording.chunks import Bytes, Chunk, ChunkReader, ChunkWriter
from ggrpc.errors import RecordingError

OPENED, MESSAGE, PART, OMITTED, CLOSED = range(1, 6)

_OPENED = struct.Struct("<IQ")
_MESSAGE = struct.Struct("<IQBBQ")
_PART = struct.Struct("<IB")
_OMITTED = struct.Struct("<IBQQ")
_CLOSED = struct.Struct("<IQB")


class JournalWriter:
    """Writes what connections say.

    Args:
        chunks: where to.
    """

    def __init__(self, chunks: ChunkWriter) -> None:
        self._chunks = chunks
        self._began = time.perf_counter_ns()

    def opened(self, connection: int, client: str, server: str) -> None:
        about = json.dumps({"client": client, "server": server}).encode()
        head = _OPENED.pack(connection, self._now())
        self._chunks.append(OPENED, head, about)

    def message(
        self, connection: int, from_server: bool, command: int, size: int, data: Bytes
    ) -> None:
        head = _MESSAGE.pack(connection, self._now(), from_server, command, size)
        self._chunks.append(MESSAGE, head, data)

    def part(self, connection: int, from_server: bool, data: Bytes) -> None:
        self._chunks.append(PART, _PART.pack(connection, from_server), data)

    def omitted(self, connection: int, from_server: bool, size: int, hash: int) -> None:
        self._chunks.append(OMITTED, _OMITTED.pack(connection, from_server, size, hash))

    def closed(self, connection: int, by_server: bool) -> None:
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
        size: how many.
        hash: their FNV-1a, 0 where it was not wanted.
    """

    size: int
    hash: int


@dataclass
class Message:
    """A request or a reply.

    Attributes:
        connection: whose.
        time: when it began.
        from_server: whether it is a reply.
        command: what is asked for, 0 in a reply.
        size: bytes of its payload on the wire.
        omitted: what is not there of it.
        reader: has its chunks.
        chunks: those with its bytes, and where in each they begin.
        left: how many bytes are still to come.
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
        """The payload, piece by piece, as far as it was kept.

        Raises:
            RecordingError: a checksum is wrong.
        """
        assert self.reader is not None
        for chunk, skip in self.chunks:
            yield self.reader.read(chunk)[skip:]

    def payload(self) -> bytes:
        """All of it in one piece."""
        return b"".join(self.parts())

    def head(self, size: int) -> bytes:
        """Its first bytes."""
        found = b""
        for part in self.parts():
            found += part[: size - len(found)]
            if len(found) == size:
                break
        return found

    def tail(self, start: int) -> Iterator[bytes]:
        """The payload from a byte on, piece by piece."""
        for part in self.parts():
            yield part[start:]
            start = max(0, start - len(part))


Event = Opened | Message | Closed


class Journal:
    """Reads a recording; a context manager.

    Args:
        path: the file.

    Attributes:
        path: the file.
        size: its bytes.
        moved: called with the bytes of each chunk that was gone through.
        cut: whether the file ends in the middle of a chunk or of a message, once all
            events were read.

    Raises:
        RecordingError: it is no recording that this ggrpc can read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut = False
        self.moved: Callable[[int], None] = lambda size: None
        self._reader = ChunkReader(path)
        self.size = self._reader.size

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.__exit__(None, None, None)

    def events(self) -> Iterator[Event]:
        """What happened, in order; a message when it was whole.

        Raises:
            RecordingError: a checksum is wrong.
        """
        under_way: dict[tuple[int, bool], Message] = {}
        for chunk in self._reader.chunks():
            self.moved(chunk.size)
            if chunk.kind == OPENED:
                yield self._opened(chunk)
            elif chunk.kind == CLOSED:
                closed = self._closed(chunk)
                for from_server in (False, True):  # what never became whole
                    under_way.pop((closed.connection, from_server), None)
                yield closed
            else:
                message = self._message(chunk, under_way)
                if message is not None:
                    yield message
        self.cut = self._reader.cut or bool(under_way)

    def _opened(self, chunk: Chunk) -> Opened:
        payload = self._reader.read(chunk)
        connection, time = self._fields(_OPENED, chunk, payload)
        try:
            about = json.loads(payload[_OPENED.size :])
            return Opened(connection, time, about["client"], about["server"])
        except (ValueError, KeyError, TypeError):
            raise self._damaged(chunk, "do not say who was connected") from None

    def _closed(self, chunk: Chunk) -> Closed:
        payload = self._reader.read(chunk)
        connection, time, by_server = self._fields(_CLOSED, chunk, payload)
        return Closed(connection, time, bool(by_server))

    def _message(
        self, chunk: Chunk, under_way: dict[tuple[int, bool], Message]
    ) -> Message | None:
        """Add a chunk to the message that it belongs to; that one where it is whole."""
        if chunk.kind == MESSAGE:
            message, kept = self._begun(chunk)
        else:
            message, kept = self._continued(chunk, under_way)
        key = message.connection, message.from_server
        # Nothing of a side may come between the pieces of what it says.
        if kept > message.left or under_way.get(key, message) is not message:
            raise self._damaged(chunk, "belong to no message")
        message.left -= kept
        if message.left:
            under_way[key] = message
            return None
        under_way.pop(key, None)
        return message

    def _begun(self, chunk: Chunk) -> tuple[Message, int]:
        """A new message, and how many bytes of it are here."""
        head = self._reader.peek(chunk, _MESSAGE.size)
        connection, time, server, command, size = self._fields(_MESSAGE, chunk, head)
        message = Message(connection, time, bool(server), command, size)
        message.reader, message.left = self._reader, size
        message.chunks.append((chunk, _MESSAGE.size))
        return message, chunk.size - _MESSAGE.size

    def _continued(
        self, chunk: Chunk, under_way: dict[tuple[int, bool], Message]
    ) -> tuple[Message, int]:
        """The message that goes on, and how many bytes of it are here, or omitted."""
        layout = {PART: _PART, OMITTED: _OMITTED}.get(chunk.kind)
        if layout is None:
            raise self._damaged(
                chunk, f"are a chunk of kind {chunk.kind}, unknown here"
            )
        head = self._reader.peek(chunk, layout.size)
        connection, server, *rest = self._fields(layout, chunk, head)
        message = under_way.get((connection, bool(server)))
        if message is None:
            raise self._damaged(chunk, "belong to no message")
        if chunk.kind == PART:
            message.chunks.append((chunk, _PART.size))
            return message, chunk.size - _PART.size
        message.omitted = Omitted(*rest)
        return message, message.omitted.size

    def _fields(self, layout: struct.Struct, chunk: Chunk, payload: bytes) -> Any:
        if len(payload) < layout.size:
            raise self._damaged(chunk, "are too few for what they are")
        return layout.unpack_from(payload)

    def _damaged(self, chunk: Chunk, what: str) -> RecordingError:
        self._reader.read(chunk)  # the checksum is the better reason
        return RecordingError(
            f"{self.path}: {chunk.size} bytes at {chunk.at} {what}; the file was "
            "damaged, record it anew"
        )
