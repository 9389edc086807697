from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggrpc.engine.files.tensors import FileTensor, read_tensors
from ggrpc.errors import ConfigError, FileError
from ggrpc.types import GGMLType
from tests.support.caches import write_gguf


def safetensors(path: Path, header: object, data: bytes = bytes(16)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape: object, dtype: object = "F32", end: int = 16) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


def data_of(tensor: FileTensor) -> bytes:
    return b"".join(map(bytes, tensor.pieces()))


def read_all(path: Path) -> list[bytes]:
    return [data_of(tensor) for tensor in read_tensors(path)]


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4)),
        np.arange(5, dtype=">f8"),
        np.float16(3),
        np.zeros((0, 4), np.int64),
    ],
    ids=["rows", "columns first", "big-endian", "one number", "none"],
)
def test_npy_of_any_layout(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array)
    (loaded,) = read_tensors(tmp_path / "x.npy")
    assert loaded.name == "x"
    assert data_of(loaded) == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_npz_and_safetensors_and_gguf(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.ones(3, np.int8), b=np.ones(2))
    found = [(t.name, t.type, t.ne[0]) for t in read_tensors(tmp_path / "x.npz")]
    assert found == [("a", GGMLType.I8, 3), ("b", GGMLType.F64, 2)]
    header = {"__metadata__": {"a": "b"}, **entry([2, 4], "BF16")}
    (loaded,) = read_tensors(safetensors(tmp_path / "x.SAFETENSORS", header))
    assert (loaded.type, loaded.ne) == (GGMLType.BF16, (4, 2, 1, 1))
    model = write_gguf(tmp_path / "x.gguf", b"bytes of a tensor")
    assert [data_of(t) for t in read_tensors(model)] == [b"bytes of a tensor"]


@pytest.mark.parametrize(
    "header",
    [
        [1],
        {"w": "text"},
        b"[" * 100_000,
        entry([1 << 70]),
        entry([-2, -2]),
        entry([4.0]),
        entry([4], ["F32"]),
        entry([8], end=32),
    ],
    ids=[
        *("a list", "a text", "too deep", "too large", "negative", "no integer"),
        *("no type", "beyond the end"),
    ],
)
def test_safetensors_that_lie_are_refused(tmp_path: Path, header: object) -> None:
    path = safetensors(tmp_path / "x.safetensors", header)
    with pytest.raises(FileError, match=r"is not a valid \.safetensors file"):
        read_all(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors", "gguf"])
@pytest.mark.parametrize("keep", [0, 3, 100, 150])
def test_cut_files_are_refused(tmp_path: Path, kind: str, keep: int) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, np.ones(16))
    elif kind == "npz":
        np.savez(path, x=np.ones(16))
    elif kind == "gguf":
        write_gguf(path, bytes(1000))
    else:
        safetensors(path, entry([64], end=256), bytes(256))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileError, match=f"x.{kind}"):
        read_all(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    for kind in "npy", "npz", "safetensors", "gguf":
        path = tmp_path / f"x.{kind}"
        path.write_text("this is a letter to somebody")
        with pytest.raises(FileError) as caught:
            read_all(path)
        # numpy's own message suggests pickle, which is dangerous.
        assert "pickle" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("letter.txt", "dear")
    with pytest.raises(FileError, match=r"letter\.txt is not an array"):
        read_all(tmp_path / "x.npz")


def test_rotten_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.ones(3000))
    data = bytearray(path.read_bytes())
    data[60:70] = bytes(10)
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"is not a valid \.npz file"):
        read_all(path)


@pytest.mark.parametrize("dtype", ["u1", "?", "c8", "U3"])
def test_dtype_without_a_type_is_an_error(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3, dtype))
    with pytest.raises(
        ConfigError, match=r"x\.npy: ggml has no type for .*: convert the array to"
    ):
        read_all(tmp_path / "x.npy")
    path = safetensors(tmp_path / "x.safetensors", entry([16], "F8_E4M3"))
    with pytest.raises(ConfigError, match="no type for w, which has type F8_E4M3"):
        read_all(path)
