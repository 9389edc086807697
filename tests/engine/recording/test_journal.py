"""Events of recordings, valid ones and damaged ones."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.inspection.graphs import graphs_in
from ggrpc.engine.recording.chunk_file import ChunkReader, ChunkWriter
from ggrpc.engine.recording.journal import (
    CLOSED,
    MESSAGE,
    OMITTED,
    OPENED,
    PART,
    Journal,
    JournalWriter,
    Opened,
)
from ggrpc.engine.recording.replayer import Replayer, ReplaySettings
from ggrpc.errors import GgrpcError, RecordingError
from tests.support.recordings import recorded_here


def written(path: Path, *chunks: tuple[int, bytes]) -> Path:
    writer = ChunkWriter(path, force=True)
    for kind, payload in chunks:
        writer.append(kind, payload)
    writer.close()
    return path


def message(size: int, data: bytes, connection: int = 1) -> tuple[int, bytes]:
    return MESSAGE, struct.pack("<IQBBQ", connection, 0, 0, 14, size) + data


def part(data: bytes, connection: int = 1) -> tuple[int, bytes]:
    return PART, struct.pack("<IB", connection, 0) + data


def test_message_in_parts_is_one(tmp_path: Path) -> None:
    pieces = message(10, b"ab"), part(b"cdef"), part(b"ghij")
    with Journal(written(tmp_path / "g", *pieces)) as journal:
        (found,) = journal.events()
        assert found.payload() == b"abcdefghij"  # type: ignore[union-attr]
        assert found.head(3) == b"abc"  # type: ignore[union-attr]
        assert b"".join(found.tail(5)) == b"fghij"  # type: ignore[union-attr]
    assert not journal.cut


def test_times_and_names_come_back(tmp_path: Path) -> None:
    chunks = ChunkWriter(tmp_path / "g")
    journal = JournalWriter(chunks)
    journal.opened(7, "client", "server")
    journal.closed(7, True)
    chunks.close()
    with Journal(tmp_path / "g") as read:
        opened, closed = read.events()
    assert isinstance(opened, Opened)
    assert (opened.connection, opened.client, opened.server) == (7, "client", "server")
    assert (closed.connection, closed.time >= opened.time) == (7, True)


@pytest.mark.parametrize(
    "chunks",
    [
        [(9, b"")],
        [part(b"ab")],
        [message(1, b"ab")],
        [message(3, b"ab"), part(b"cd")],
        [message(3, b"ab"), message(2, b"ab")],
        [message(3, b"ab"), (OMITTED, struct.pack("<IBQQ", 1, 0, 2, 0))],
        [(OPENED, b"\0" * 12 + b"no JSON")],
        [(OPENED, b"\0" * 12 + b"{}")],
        [(OPENED, b"\0" * 12 + b"[]")],
        *([(kind, b"\0")] for kind in (OPENED, MESSAGE, PART, OMITTED, CLOSED)),
    ],
)
def test_invalid_chunks_are_damage(
    tmp_path: Path, chunks: list[tuple[int, bytes]]
) -> None:
    with (
        Journal(written(tmp_path / "g", *chunks)) as journal,
        pytest.raises(RecordingError, match="is damaged"),
    ):
        list(journal.events())


def test_unfinished_message_of_a_closed_connection_is_not_truncation(
    tmp_path: Path,
) -> None:
    closed = CLOSED, struct.pack("<IQB", 1, 0, 0)
    for end, cut in ([], True), ([closed], False):
        with Journal(written(tmp_path / "g", message(3, b"ab"), *end)) as journal:
            list(journal.events())
        assert journal.cut is cut


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, bytes]]:
    """The chunks of a real session."""
    path = recorded_here(tmp_path_factory.mktemp("good") / "graph.bin")
    with ChunkReader(path) as reader:
        return [(chunk.kind, reader.read(chunk)) for chunk in reader.chunks()]


@pytest.mark.parametrize("seed", range(150))
def test_arbitrary_chunks_raise_only_ggrpc_errors(
    tmp_path: Path, good: list[tuple[int, bytes]], seed: int
) -> None:
    """Chunks with valid checksums and invalid contents."""
    rng = random.Random(seed)
    chunks = [(kind, bytearray(payload)) for kind, payload in good]
    for _ in range(rng.choice((1, 3, 10))):
        at = rng.randrange(len(chunks))
        payload = chunks[at][1]
        change = rng.randrange(4)
        if change == 0:
            del chunks[at]
        elif change == 1:
            chunks.insert(at, chunks[rng.randrange(len(chunks))])
        elif change == 2:
            del payload[rng.randrange(len(payload) + 1) :]
        elif payload:
            place = rng.randrange(len(payload))
            payload[place] = rng.choice(
                (0, 1, 255, payload[place] ^ 1 << rng.randrange(8))
            )
    path = written(tmp_path / "g", *((kind, bytes(data)) for kind, data in chunks))
    try:
        with graphs_in(path) as graphs:
            for graph in graphs:
                graph.read()
    except GgrpcError:
        pass
    try:
        with CpuDevice(threads=1, weight_cache=0) as device, Journal(path) as journal:
            for _ in Replayer([device], ReplaySettings(repeat=2)).run(journal):
                pass
    except GgrpcError:
        pass
