from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from ggrpc.engine.cache.accelerated_hash import Hashing
from ggrpc.engine.cache.fnv1a import fnv1a, hash_name
from ggrpc.engine.cache.folder import Folder
from ggrpc.engine.cache.index import Index
from ggrpc.engine.cache.inventory import items
from ggrpc.engine.cache.models import LocalModel
from ggrpc.engine.cache.verify import Verifier
from tests.support.caches import (
    LARGE,
    CacheClient,
    entry_names,
    open_cache,
    random_bytes,
    write_gguf,
)

DATA, OTHER = random_bytes(), random_bytes(seed=1)
NAME, NEXT = hash_name(fnv1a(DATA)), hash_name(fnv1a(OTHER))


@pytest.fixture
def cache(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A folder with two entries; a model file has the tensor of one of them."""
    path = tmp_path / "cache"
    with open_cache(path) as cache:
        for data in DATA, OTHER:
            CacheClient(cache).load(data)
    index = Index(path)
    model = write_gguf(tmp_path / "model.gguf", random_bytes(10), DATA)
    LocalModel(model, index, Hashing()).hash()
    yield Folder(path), index
    index.close()


def results(folder: Folder, index: Index, dry_run: bool = False) -> dict[str, str]:
    done: list[int] = []
    verifier = Verifier(folder, index, dry_run)
    found = list(verifier.run(done.append))
    assert sum(done) <= verifier.size
    return {f"{one.kind} {one.name}": one.result for one in found}


def test_items_are_entries_and_model_tensors(cache, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = str(tmp_path / "model.gguf")
    found = items(*cache)
    assert {(one.name, one.kind, one.size, one.tensor, one.model) for one in found} == {
        (NAME, "entry", LARGE, "b", model),
        (NEXT, "entry", LARGE, "blk.0", None),
        (NAME, "model", LARGE, "b", model),
    }


def test_intact_cache_is_not_changed(cache) -> None:  # type: ignore[no-untyped-def]
    folder, index = cache
    before = folder.entries()
    assert set(results(folder, index).values()) == {"ok"}
    assert sorted(folder.entries()) == sorted(before)


def test_entries_of_another_user_are_verified(
    cache, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    def refuse(path: Path, ns: tuple[int, int]) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    assert set(results(*cache).values()) == {"ok"}


def test_damaged_entry_is_repaired_or_removed(cache) -> None:  # type: ignore[no-untyped-def]
    folder, index = cache
    for name in NAME, NEXT:
        (folder.path / name).write_bytes(b"wrong")
    expected = {f"entry {NAME}": "repaired", f"entry {NEXT}": "removed"}
    planned = {name: f"would be {result}" for name, result in expected.items()}
    assert planned.items() <= results(folder, index, dry_run=True).items()
    assert len(entry_names(folder.path)) == 2
    assert expected.items() <= results(folder, index).items()
    assert entry_names(folder.path) == [NAME]
    assert (folder.path / NAME).read_bytes() == DATA
    assert set(results(folder, index).values()) == {"ok"}


def test_damaged_entry_in_use_is_reported(cache) -> None:  # type: ignore[no-untyped-def]
    folder, index = cache
    (folder.path / NEXT).write_bytes(b"wrong")
    with (folder.path / NEXT).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert results(folder, index)[f"entry {NEXT}"] == "in use"


def test_changed_model_is_forgotten(cache, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder, index = cache
    write_gguf(tmp_path / "model.gguf", random_bytes(10), OTHER)
    assert results(folder, index)[f"model {NAME}"] == "changed"
    assert index.model_tensors() == []


def test_deleted_model_is_forgotten(cache, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder, index = cache
    (tmp_path / "model.gguf").unlink()
    (folder.path / NAME).write_bytes(b"wrong")
    assert results(folder, index) == {
        f"model {NAME}": "gone",
        f"entry {NAME}": "removed",
        f"entry {NEXT}": "ok",
    }
