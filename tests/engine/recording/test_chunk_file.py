from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ggrpc.engine.recording.chunk_file import ChunkReader, ChunkWriter
from ggrpc.errors import ConfigError, RecordingError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of two chunks."""
    path = tmp_path / "graph.bin"
    writer = ChunkWriter(path)
    writer.append(1, b"one")
    writer.append(2, b"t", b"", b"wo")
    writer.close()
    return path


def contents(path: Path) -> tuple[list[tuple[int, bytes]], bool]:
    with ChunkReader(path) as reader:
        found = [(chunk.kind, reader.read(chunk)) for chunk in reader.chunks()]
        return found, reader.cut


def test_chunks_come_back(path: Path) -> None:
    assert contents(path) == ([(1, b"one"), (2, b"two")], False)


def test_file_is_valid_up_to_its_last_whole_chunk(path: Path) -> None:
    whole = path.read_bytes()
    first = len(whole) - (4 + 8 + 3 + 4)
    for size in range(16, len(whole)):
        path.write_bytes(whole[:size])
        expected = [(1, b"one")] if size >= first else []
        assert contents(path) == (expected, size not in (16, first))


def test_every_flipped_bit_is_found(path: Path) -> None:
    whole = path.read_bytes()
    first_payload = 16 + 12
    for at in range(first_payload, first_payload + 3 + 4):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(RecordingError, match="checksum"):
            contents(path)


@pytest.mark.parametrize("start", [b"", b"GGRPC", b"GGUF" + bytes(60)])
def test_foreign_file_is_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(start)
    with pytest.raises(RecordingError, match="is not a recording"):
        ChunkReader(path)


def test_newer_format_is_refused(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[8] = 9
    path.write_bytes(whole)
    with pytest.raises(RecordingError, match="has format 9, this ggrpc reads up to 1"):
        ChunkReader(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        ChunkReader(tmp_path / "none")


def test_existing_file_is_kept_unless_forced(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="--force"):
        ChunkWriter(path)
    assert path.read_bytes() == before
    ChunkWriter(path, force=True).close()
    assert contents(path) == ([], False)


def test_missing_folder_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        ChunkWriter(tmp_path / "none" / "graph.bin")


def test_full_disk_is_reported() -> None:
    with pytest.raises(RecordingError, match="No space left"):
        ChunkWriter(Path("/dev/full"), force=True)


def test_file_on_a_full_disk_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "graph.bin"
    writer = ChunkWriter(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        writer.append(1, b"one")
        with pytest.raises(RecordingError, match="File too large; the file is valid"):
            writer.append(2, bytes(80))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        writer.close()
    assert path.stat().st_size == 100
    assert contents(path) == ([(1, b"one")], True)


def test_chunks_are_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "graph.bin"
    writer = ChunkWriter(path)
    writer.append(1, b"one")
    assert contents(path) == ([(1, b"one")], False)
    writer.close()
