from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from ggrpc.engine.cache.fnv1a import fnv1a, hash_name
from ggrpc.engine.cache.folder import LOCK, PART
from ggrpc.engine.cache.index import FILE
from ggrpc.engine.cache.models import LocalModel
from ggrpc.engine.cache.tensor_cache import TensorCache
from ggrpc.errors import ConnectionLost, FileError
from tests.support.caches import (
    LARGE,
    CacheClient,
    cache_size,
    entry_names,
    open_cache,
    random_bytes,
    write_gguf,
)

DATA = random_bytes()
NAME = hash_name(fnv1a(DATA))


def fill(folder: Path, *datas: bytes) -> None:
    with open_cache(folder) as cache:
        for data in datas:
            assert not CacheClient(cache).load(data)


def test_stored_tensor_is_found_after_a_restart(tmp_path: Path) -> None:
    fill(tmp_path, DATA)
    assert entry_names(tmp_path) == [NAME]
    assert (tmp_path / NAME).read_bytes() == DATA
    with open_cache(tmp_path) as cache:
        assert CacheClient(cache).load(DATA)
        assert CacheClient(cache).load(DATA)


def test_stored_tensor_is_found_by_the_next_client(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        assert [CacheClient(cache).load(DATA) for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("asked", "flag", "size", "stored"),
    [
        (True, True, 100, True),
        (True, False, LARGE, False),
        (False, False, LARGE, True),
        (False, False, 10 << 20, False),
    ],
)
def test_which_tensors_are_stored_depends_on_the_protocol(
    tmp_path: Path, asked: bool, flag: bool, size: int, stored: bool
) -> None:
    with open_cache(tmp_path) as cache:
        CacheClient(cache, asked).load(random_bytes(size), flag)
    assert len(entry_names(tmp_path)) == stored


def test_without_a_cache_every_request_misses() -> None:
    sender = CacheClient(None)
    assert not sender.load(DATA)
    assert not sender.load(DATA)


def flip_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(LARGE // 2)
        byte = file.read(1)[0]
        file.seek(LARGE // 2)
        file.write(bytes([byte ^ 4]))


def truncate(path: Path) -> None:
    os.truncate(path, LARGE - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def replace(path: Path) -> None:
    path.write_bytes(random_bytes(seed=9))


@pytest.mark.parametrize("damage", [flip_bit, truncate, empty, replace])
@pytest.mark.parametrize("same_time", [False, True])
def test_damaged_entry_is_not_served(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    damage,  # type: ignore[no-untyped-def]
    same_time: bool,
) -> None:
    fill(tmp_path, DATA)
    path = tmp_path / NAME
    times = path.stat()
    damage(path)
    if same_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with open_cache(tmp_path) as cache:
        assert not CacheClient(cache).load(DATA)
    assert "is damaged and will be removed; the client must send it" in caplog.text
    assert path.read_bytes() == DATA


def test_entry_damaged_while_the_server_runs_is_not_served(tmp_path: Path) -> None:
    fill(tmp_path, DATA)
    with open_cache(tmp_path) as cache:
        assert CacheClient(cache).load(DATA)
        flip_bit(tmp_path / NAME)
        assert not CacheClient(cache).load(DATA)


def test_entry_of_another_program_is_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(DATA)
    with open_cache(tmp_path) as cache:
        assert CacheClient(cache).load(DATA)
    with open_cache(tmp_path) as cache:
        # The entry has a checksum now, so it is not hashed again.
        monkeypatch.setattr(cache.hashing, "of", lambda view: 0)
        assert CacheClient(cache).load(DATA)


def test_wrong_entry_of_another_program_is_not_served(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(random_bytes(seed=3))
    with open_cache(tmp_path) as cache:
        assert not CacheClient(cache).load(DATA)
    assert (tmp_path / NAME).read_bytes() == DATA


def test_entry_of_another_user_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, ns: tuple[int, int]) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    (tmp_path / NAME).write_bytes(DATA)
    monkeypatch.setattr(os, "utime", refuse)
    with open_cache(tmp_path) as cache:
        assert CacheClient(cache).load(DATA)


def test_entry_larger_than_the_tensor_is_not_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, DATA)
    with open_cache(tmp_path) as cache:
        assert not CacheClient(cache).load(random_bytes(100), value=fnv1a(DATA))
    assert f"{NAME} has {LARGE} bytes, but the tensor has 100;" in caplog.text
    assert (tmp_path / NAME).read_bytes() == DATA


def test_entry_is_named_by_its_hash_not_by_the_announced_one(
    tmp_path: Path,
) -> None:
    with open_cache(tmp_path) as cache:
        CacheClient(cache).load(DATA, value=fnv1a(b"what else"))
    assert entry_names(tmp_path) == [NAME]


def test_damaged_index_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, DATA)
    (tmp_path / FILE).write_bytes(random_bytes(4096))
    with open_cache(tmp_path) as cache:
        assert CacheClient(cache).load(DATA)
    assert "is damaged: " in caplog.text
    assert sqlite3.connect(tmp_path / FILE).execute("SELECT hash FROM entry")


def test_cache_works_while_the_index_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, DATA)
    monkeypatch.setattr("ggrpc.engine.cache.index.BUSY_TIMEOUT", 0.01)
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with open_cache(tmp_path) as cache:
        assert CacheClient(cache).load(DATA)
    other.close()
    assert "database is locked" in caplog.text


def test_folder_that_cannot_be_created_is_a_file_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"cannot be used as a cache: .*--cache-dir"):
        TensorCache(tmp_path / "file")


def test_full_disk_discards_only_the_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(fd: int, data: memoryview, at: int) -> int:
        if at + len(data) > 5 << 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data, at)

    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    with open_cache(tmp_path) as cache:
        assert not CacheClient(cache).load(DATA)
        assert not CacheClient(cache).load(DATA)
    assert "(No space left on device): blk.0 is not cached" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, FILE}


def test_disconnected_client_leaves_no_file(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        sender = CacheClient(cache)
        tensor = sender.allocated(LARGE)
        with pytest.raises(ConnectionLost):
            sender.send(tensor, DATA[:-1], size=LARGE)
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, FILE}


def test_least_recently_used_entry_is_removed_first(tmp_path: Path) -> None:
    datas = [random_bytes(seed=seed) for seed in range(4)]
    names = [hash_name(fnv1a(data)) for data in datas]
    with open_cache(tmp_path, limit=3 * LARGE + 1) as cache:
        for data in datas[:3]:
            CacheClient(cache).load(data)
        assert CacheClient(cache).load(datas[0])
        CacheClient(cache).load(datas[3])
    assert set(entry_names(tmp_path)) == {names[0], names[2], names[3]}


def test_tensor_larger_than_the_limit_is_not_stored_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_cache(tmp_path, limit=LARGE - 1) as cache:
        for seed in range(3):
            CacheClient(cache).load(random_bytes(seed=seed))
    assert entry_names(tmp_path) == []
    assert caplog.text.count("but the limit of the cache is 10.0 MiB") == 1


@pytest.mark.parametrize("count", [0, 10_000])
def test_folder_shared_by_servers_stays_under_its_limit(
    tmp_path: Path, count: int
) -> None:
    for number in range(count):
        path = tmp_path / f"{number:016x}"
        path.touch()
        os.truncate(path, 4096)
    limit, most = 5 * LARGE + 4096 * count, 0

    def send(cache: TensorCache, seeds: range) -> None:
        for seed in seeds:
            CacheClient(cache).load(random_bytes(seed=seed))

    with open_cache(tmp_path, limit) as one, open_cache(tmp_path, limit) as two:
        threads = [
            threading.Thread(target=send, args=(cache, range(start, start + 6)))
            for cache, start in ((one, 0), (one, 100), (two, 200), (two, 3))
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with one.folder.locked():  # no entry is started meanwhile
                most = max(most, cache_size(tmp_path))
    assert 0 < most <= limit
    for name in entry_names(tmp_path):
        if not name.startswith("000000000000"):
            assert hash_name(fnv1a((tmp_path / name).read_bytes())) == name


def test_model_tensor_is_served_without_entries(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf", random_bytes(100), DATA)
    with TensorCache(tmp_path / "cache", use_entries=False) as cache:
        LocalModel(model, cache.index, cache.hashing).hash()
        assert CacheClient(cache).load(DATA)
        assert not CacheClient(cache).load(random_bytes(seed=5))
    assert entry_names(tmp_path / "cache") == []


@pytest.mark.parametrize("same_time", [False, True])
def test_changed_model_is_not_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, same_time: bool
) -> None:
    model = write_gguf(tmp_path / "model.gguf", DATA)
    with open_cache(tmp_path / "cache") as cache:
        LocalModel(model, cache.index, cache.hashing).hash()
        times = model.stat()
        flip_bit(model)
        if same_time:
            os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
        with caplog.at_level(logging.WARNING):
            assert not CacheClient(cache).load(DATA)
    assert str(model) in caplog.text


def test_deleted_model_is_not_served(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf", DATA)
    with open_cache(tmp_path / "cache") as cache:
        LocalModel(model, cache.index, cache.hashing).hash()
        model.unlink()
        assert not CacheClient(cache).load(DATA)


def test_only_part_files_of_dead_writers_are_removed(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        begun = cache.begin(LARGE, None, "alive")
        assert begun is not None
        dead = tmp_path / f".dead{PART}"
        dead.write_bytes(b"half")
        CacheClient(cache).load(random_bytes(20), value=1)
        assert not dead.exists()
        assert begun.path.exists()
        begun.discard_incomplete()
