from __future__ import annotations

import os
from pathlib import Path

import pytest

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.fnv1a import fnv1a, hash_name
from ggrpc.engine.cache.index import Index
from ggrpc.engine.cache.models import Indexer, LocalModel, files_of
from ggrpc.errors import Cancelled, FileError
from tests.support.caches import LARGE, random_bytes, write_gguf

DATA = random_bytes()


@pytest.fixture
def index(tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "cache").mkdir()
    index = Index(tmp_path / "cache")
    yield index
    index.close()


def test_large_tensors_are_indexed_by_hash(tmp_path: Path, index: Index) -> None:
    path = write_gguf(tmp_path / "model.gguf", random_bytes(100), DATA)
    LocalModel(path, index, Hashing()).hash()
    (tensor,) = index.model_tensors()
    assert (tensor.hash, tensor.tensor, tensor.size) == (
        hash_name(fnv1a(DATA)),
        "b",
        LARGE,
    )
    assert path.read_bytes()[tensor.offset : tensor.offset + tensor.size] == DATA


def test_unchanged_model_is_not_read_again(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "model.gguf", DATA)
    LocalModel(path, index, Hashing()).hash()
    monkeypatch.setattr("ggrpc.engine.cache.models.tensors_of", None)
    again = LocalModel(path, index, Hashing())
    assert (again.todo, len(again.done)) == ([], 1)


def test_changed_model_is_hashed_again(tmp_path: Path, index: Index) -> None:
    path = write_gguf(tmp_path / "model.gguf", DATA)
    LocalModel(path, index, Hashing()).hash()
    write_gguf(path, random_bytes(seed=1))
    os.utime(path, ns=(0, 0))
    LocalModel(path, index, Hashing()).hash()
    assert [one.hash for one in index.model_tensors()] == [
        hash_name(fnv1a(random_bytes(seed=1)))
    ]


def test_hashes_survive_a_cancelled_run(tmp_path: Path, index: Index) -> None:
    path = write_gguf(tmp_path / "model.gguf", DATA, random_bytes(seed=1))

    def stop(count: int) -> None:
        if index.model_tensors():
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        LocalModel(path, index, Hashing()).hash(stop)
    again = LocalModel(path, index, Hashing())
    assert [tensor.name for tensor in again.todo] == ["b"]
    again.hash()
    assert len(index.model_tensors()) == 2


@pytest.mark.parametrize("keep", [0, 4, 60, 11 << 20])
def test_truncated_file_is_a_file_error(
    tmp_path: Path, index: Index, keep: int
) -> None:
    path = write_gguf(tmp_path / "model.gguf", DATA, random_bytes(seed=1))
    os.truncate(path, keep)
    with pytest.raises(FileError, match=r"model\.gguf is .*; download it again"):
        LocalModel(path, index, Hashing())


def test_missing_file_is_a_file_error(tmp_path: Path, index: Index) -> None:
    with pytest.raises(FileError, match=r"none\.gguf cannot be read"):
        LocalModel(tmp_path / "none.gguf", index, Hashing())


def test_files_of_folders_and_split_models(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"m-{n:05}-of-00003.gguf" for n in (1, 2, 3)]
    (tmp_path / "deep").mkdir()
    for name in (*names[:2], "deep/other.gguf", "deep/text.txt"):
        (tmp_path / name).touch()
    found = files_of(tmp_path)
    assert {path.name for path in found} == {*names[:2], "other.gguf"}
    assert [path.name for path in files_of(tmp_path / names[1])] == names[:2]
    assert f"{names[2]} is missing" in caplog.text
    with pytest.raises(FileError, match="there is no model at"):
        files_of(tmp_path / "none")


def test_indexer_continues_after_an_invalid_file(
    tmp_path: Path, index: Index, caplog: pytest.LogCaptureFixture
) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model at all")
    good = write_gguf(tmp_path / "good.gguf", DATA)
    indexer = Indexer([bad, good], index, Hashing())
    with indexer:
        indexer._thread.join(60)
    assert len(index.model_tensors()) == 1
    assert f"{bad} is not a valid GGUF" in caplog.text


def test_indexer_stops_at_the_end_of_the_block(tmp_path: Path, index: Index) -> None:
    path = write_gguf(
        tmp_path / "model.gguf", *(random_bytes(seed=n) for n in range(8))
    )
    with Indexer([path], index, Hashing()):
        pass
    assert len(index.model_tensors()) < 8
