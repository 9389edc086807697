"""Files with false headers are refused quickly, and with little memory."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ggrpc.engine.cache.accelerated_hash import hashing_for
from ggrpc.engine.cache.index import Index
from ggrpc.engine.cache.warming import ModelWeights, warm
from ggrpc.engine.client.registry import connect
from ggrpc.engine.files.gguf import MAX_TENSORS, MAX_VALUES, tensors_of
from ggrpc.engine.files.ranges import PIECE, FileChangedError, FileRange
from ggrpc.engine.files.single_tensor import load
from ggrpc.engine.files.tensors import read_tensors
from ggrpc.engine.recording.chunk_file import ChunkWriter
from ggrpc.engine.recording.journal import Journal
from ggrpc.engine.sharing.upload import UploadedTensors
from ggrpc.errors import ConfigError, FileError, GgrpcError, TransportError
from tests.support.caches import write_gguf
from tests.support.hostile_files import Entry, gguf, text
from tests.support.servers import running

SECONDS = 5.0
MEMORY = 200 << 20  # bytes


def array(type: int, count: int, values: bytes = b"") -> bytes:
    """A key-value pair with an array."""
    return text("a") + struct.pack("<IIQ", 9, type, count) + values


def nested(depth: int) -> bytes:
    return text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * depth


X = Entry("x")
HOSTILE_GGUF: dict[str, Callable[[Path], Path]] = {
    **{
        f"array of 2^60 of type {type}": lambda path, type=type: gguf(
            path, pairs=array(type, 1 << 60), counts=(0, 1), data=b""
        )
        for type in (0, 4, 8, 9, 12)
    },
    "2^60 tensors": lambda path: gguf(path, counts=(1 << 60, 0)),
    "2^60 pairs": lambda path: gguf(path, counts=(0, 1 << 60)),
    "2^64 - 1 of both": lambda path: gguf(path, counts=(2**64 - 1, 2**64 - 1)),
    "an array whose size wraps around": lambda path: gguf(
        path, pairs=array(10, 1 << 61), counts=(0, 1)
    ),
    "a long string": lambda path: gguf(
        path, pairs=text("a") + struct.pack("<IQ", 8, 1 << 60), counts=(0, 1)
    ),
    "a long name": lambda path: gguf(path, Entry("x" * 70_000)),
    "a name of 2^60 bytes": lambda path: gguf(
        path, pairs=struct.pack("<Q", 1 << 60), counts=(1, 0)
    ),
    "deep arrays": lambda path: gguf(path, pairs=nested(100_000), counts=(0, 1)),
    "many strings": lambda path: gguf(
        path,
        pairs=array(8, MAX_VALUES + 1, bytes(8 * (MAX_VALUES + 1))),
        counts=(0, 1),
    ),
    "many empty tensors": lambda path: gguf(
        path, *(Entry(f"{n}", (0,)) for n in range(MAX_TENSORS + 1))
    ),
    "an unknown type of values": lambda path: gguf(
        path, pairs=text("a") + struct.pack("<I", 13), counts=(0, 1)
    ),
    "no alignment": lambda path: gguf(
        path,
        pairs=text("general.alignment") + struct.pack("<II", 4, 0),
        counts=(0, 1),
    ),
    "an unknown type": lambda path: gguf(path, X._replace(type=5)),
    "a huge tensor": lambda path: gguf(path, X._replace(ne=(1 << 60, 1 << 60))),
    "a size that wraps around": lambda path: gguf(path, X._replace(ne=(1 << 62, 4))),
    "a huge offset": lambda path: gguf(path, X._replace(offset=2**64 - 32)),
    "five dimensions": lambda path: gguf(path, X._replace(ne=(1,) * 5)),
    "a row of half a block": lambda path: gguf(path, X._replace(type=2, ne=(16,))),
    "tensors in one place": lambda path: gguf(path, X, Entry("y")),
    "one name": lambda path: gguf(path, X, X._replace(offset=128)),
    "a name that is not UTF-8": lambda path: gguf(path, Entry("\udcff")),
    "an old version": lambda path: gguf(path, X, version=1),
    "big-endian": lambda path: gguf(path, X, version=3 << 24),
}


def npz(path: Path, *members: tuple[str, bytes], method: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def npy(shape: tuple[int, ...], descr: str = "<f4", by_columns: bool = False) -> bytes:
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": by_columns, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def written(data: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def safetensors(header: object, data: bytes = bytes(64)) -> Callable[[Path], Path]:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return written(struct.pack("<Q", len(raw)) + raw + data)


def place(start: object, end: object, shape: object = (4,)) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


HOSTILE_ARRAYS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "npy of 2^62 elements": (".npy", written(npy((1 << 62,)))),
    "npy whose size wraps around": (".npy", written(npy((1 << 62, 1 << 62)))),
    "npy of a negative shape": (".npy", written(npy((-1, 4)) + bytes(64))),
    "npy of objects": (".npy", written(npy((1,), "|O") + bytes(64))),
    "npz of 2^62 elements": (
        ".npz",
        lambda path: npz(path, ("a.npy", npy((1 << 62,)))),
    ),
    "npz of another compression": (
        ".npz",
        lambda path: npz(path, ("a.npy", npy((64,)) + bytes(256)), method=12),
    ),
    "npz in Fortran order": (
        ".npz",
        lambda path: npz(
            path,
            ("a.npy", npy((1 << 14, 1 << 14), "<i2", True) + bytes(1 << 29)),
            method=8,
        ),
    ),
    "safetensors of deep JSON": (".safetensors", safetensors(b"[" * 100_000)),
    "safetensors of many brackets": (".safetensors", safetensors(b"{}," * (4 << 20))),
    "safetensors of 2^63 bytes": (".safetensors", written(struct.pack("<Q", 1 << 63))),
    "safetensors without a header": (".safetensors", written(b"1234")),
    "safetensors that overlap": (
        ".safetensors",
        safetensors({f"{n}": place(0, 16) for n in range(5)}),
    ),
    "safetensors before the data": (
        ".safetensors",
        safetensors({"x": place(-16, 0)}),
    ),
    "safetensors of no numbers": (".safetensors", safetensors({"x": place("0", "16")})),
    "safetensors of a huge shape": (
        ".safetensors",
        safetensors({"x": place(0, 16, [1 << 62, 1 << 62])}),
    ),
    "safetensors of a huge number": (
        ".safetensors",
        safetensors(b'{"x": {"shape": [' + b"9" * 10_000 + b"]}}"),
    ),
}


class Bounded:
    """A context that must end quickly and allocate little memory."""

    def __enter__(self) -> None:
        tracemalloc.start()
        self._start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        seconds = time.monotonic() - self._start
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEMORY
        assert seconds < 4 * SECONDS  # tracemalloc makes it slower


@pytest.mark.parametrize("write", HOSTILE_GGUF.values(), ids=HOSTILE_GGUF)
def test_gguf_is_refused(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / "x.gguf")
    with Bounded(), pytest.raises(FileError, match=r"x\.gguf is not a valid GGUF \("):
        tensors_of(path)
    with pytest.raises(FileError):
        list(read_tensors(path))


@pytest.mark.parametrize(
    ("suffix", "write"), HOSTILE_ARRAYS.values(), ids=HOSTILE_ARRAYS
)
def test_arrays_are_refused(
    tmp_path: Path, suffix: str, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path / f"x{suffix}")
    with Bounded(), pytest.raises((FileError, ConfigError), match=f"x{suffix}"):
        _ = [sum(map(len, tensor.pieces())) for tensor in read_tensors(path)]
    if suffix == ".npy":
        with pytest.raises(FileError, match="cannot read"):
            load(path)


def test_many_tensors_are_read_in_little_memory(tmp_path: Path) -> None:
    path = gguf(tmp_path / "x.gguf", *(Entry(f"{n}", (0,)) for n in range(MAX_TENSORS)))
    with Bounded():
        assert len(tensors_of(path)) == MAX_TENSORS


def test_archive_is_read_in_pieces(tmp_path: Path) -> None:
    """A small archive of large arrays takes no more memory than one piece."""
    data = npy((1 << 28,), "|i1") + bytes(1 << 28)
    path = npz(tmp_path / "x.npz", ("a.npy", data), ("b.npy", data), method=8)
    del data
    assert path.stat().st_size < 1 << 20
    with Bounded():
        for tensor in read_tensors(path):
            assert tensor.size == 1 << 28
            assert sum(map(len, tensor.pieces())) == 1 << 28


@pytest.mark.parametrize(
    "cut", [(lambda size: size // 2), (lambda size: 40)], ids=["half", "40 bytes"]
)
def test_file_that_shrinks_is_an_error(
    tmp_path: Path, cut: Callable[[int], int]
) -> None:
    rng = np.random.default_rng(1)
    large = rng.integers(0, 100, 3 * PIECE, np.int8)
    np.save(tmp_path / "x.npy", large)
    np.savez(tmp_path / "x.npz", x=large)
    write_gguf(tmp_path / "x.gguf", large.tobytes())
    header = {"x": {"dtype": "I8", "shape": [len(large)]}}
    header["x"]["data_offsets"] = [0, len(large)]
    safetensors(header, large.tobytes())(tmp_path / "x.safetensors")
    for path in sorted(tmp_path.iterdir()):
        (tensor,) = read_tensors(path)
        pieces = tensor.pieces()
        next(pieces)
        os.truncate(path, cut(path.stat().st_size))
        with pytest.raises(FileError, match=rf"x{path.suffix}"):
            list(pieces)


def test_range_of_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"cannot read .*: No such file"):
        FileRange(tmp_path / "x", 0, 5).read()
    (tmp_path / "x").write_bytes(b"123")
    assert FileRange(tmp_path / "x", 3, 0).read() == b""
    with pytest.raises(FileChangedError, match="x ends 2 bytes early"):
        FileRange(tmp_path / "x", 0, 5).read()


def test_upload_of_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros(3 * PIECE, np.int8))
    with running() as endpoint, connect(endpoint, timeout=20) as server:
        uploaded = UploadedTensors(server.device())
        with pytest.raises(FileError, match=r"x\.npy"):
            uploaded.push(path, lambda count: os.truncate(path, PIECE))
        server.device().synchronize()  # the session can still be used


def test_weights_of_a_file_that_shrinks_end_the_session(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", bytes(40 << 20))
    index = Index(tmp_path)
    with running() as endpoint, connect(endpoint, timeout=20) as server:
        with ModelWeights([path], index, hashing_for(1)) as weights:
            for _ in weights:
                pass
            os.truncate(path, 20 << 20)
            with pytest.raises(FileChangedError, match=r"x\.gguf ends"):
                warm(server.client, weights)
        # Half of an announced tensor was sent, so the session cannot be used any more.
        with pytest.raises(TransportError):
            server.device().synchronize()
    index.close()


@pytest.mark.parametrize(
    "about", [b"[" * 100_000, b'{"client":' * 50_000, b"9" * 10_000, b"\xff", b"[]"]
)
def test_recording_of_hostile_json(tmp_path: Path, about: bytes) -> None:
    writer = ChunkWriter(tmp_path / "x.bin")
    writer.append(1, struct.pack("<IQ", 1, 0), about)
    writer.close()
    with Journal(tmp_path / "x.bin") as journal, pytest.raises(GgrpcError):
        list(journal.events())
