"""Clients that upload slowly to a server with a cache must not delay others."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache import loading, writer
from ggrpc.engine.cache.fnv1a import fnv1a, hash_name
from ggrpc.engine.cache.folder import PART
from ggrpc.engine.cache.tensor_cache import TensorCache
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.wire import messages as m
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.caches import (
    LARGE,
    CacheClient,
    entry_names,
    open_cache,
    random_bytes,
)
from tests.support.servers import running
from tests.support.waiting import wait_until

DATA = random_bytes()
SOON = 3.0  # seconds; a client that waited for another one would take 10


@contextmanager
def served(folder: Path) -> Iterator[Endpoint]:
    with TensorCache(folder) as cache, running(cache=cache) as endpoint:
        yield endpoint


def placed(client: Client, size: int = LARGE) -> Tensor:
    buffer, ne = client.allocate(size), (size, 1, 1, 1)
    nb, base = contiguous_nb(GGMLType.I8, ne), client.base(buffer)
    return Tensor(1, GGMLType.I8, buffer, ne, nb, data=base, raw_name=b"w")


@contextmanager
def uploading(endpoint: Endpoint, value: int) -> Iterator[None]:
    """A client that has announced a tensor, and has sent its first bytes."""
    with connect(endpoint, timeout=20) as client:
        tensor = placed(client)
        assert not client.set_tensor_hash(tensor, value)
        data = bytes(LARGE)
        request = m.SetTensor(tensor=tensor, cache=1, offset=0, size=LARGE, data=data)
        *head, _ = client._connection.request(request)
        client._stream.send([*head, bytes(2048)])
        yield


def load(client: Client, data: bytes) -> bool:
    """Load a tensor as llama.cpp does; returns whether the server had it."""
    tensor = placed(client, len(data))
    found = client.set_tensor_hash(tensor, fnv1a(data))
    if not found:
        client.set_tensor(tensor, data, keep=True)
    client.alignment()
    return found


@pytest.mark.parametrize("announced", [1, fnv1a(DATA)], ids=["other", "same"])
@pytest.mark.parametrize("count", [1, 5])
def test_slow_upload_delays_no_other_client(
    tmp_path: Path, count: int, announced: int
) -> None:
    with served(tmp_path) as endpoint, ExitStack() as slow:
        for _ in range(count):
            slow.enter_context(uploading(endpoint, announced))
        began = time.monotonic()
        with connect(endpoint, timeout=20) as client:
            assert not load(client, DATA)
            assert load(client, DATA)
        with connect(endpoint, timeout=20) as client:
            assert load(client, DATA)
        assert time.monotonic() - began < SOON
        assert entry_names(tmp_path) == [hash_name(fnv1a(DATA))]
    assert not list(tmp_path.glob(f"*{PART}"))


def test_many_slow_uploads_neither_keep_files_open_nor_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_PENDING", 3)
    with served(tmp_path) as endpoint, ExitStack() as slow:
        for value in range(8):
            slow.enter_context(uploading(endpoint, value))
        wait_until(lambda: len(list(tmp_path.glob(f"*{PART}"))) == 3)
        with connect(endpoint, timeout=20) as client:
            assert not load(client, DATA)
            assert load(client, DATA)


def test_slow_upload_that_lost_its_entry_still_arrives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_PENDING", 1)
    with open_cache(tmp_path) as cache:
        begun = cache.begin(LARGE, None, "slow")
        assert begun is not None
        half = LARGE // 2
        begun.write(memoryview(DATA)[:half])
        CacheClient(cache).load(random_bytes(seed=1))
        begun.write(memoryview(DATA)[half:])
    assert entry_names(tmp_path) == [hash_name(fnv1a(random_bytes(seed=1)))]


def test_pending_files_are_a_small_part_of_the_open_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for soft in (256, 1024, 1 << 20, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert 0 < writer.max_pending() <= 256
        assert soft == resource.RLIM_INFINITY or writer.max_pending() <= soft // 8


def test_entry_that_is_not_what_was_announced_delays_a_client_only_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda fd: stuck.wait(30))
    monkeypatch.setattr(loading, "WASTED_WAIT_LIMIT", 0.3)
    with open_cache(tmp_path) as cache:
        for value in range(5):
            CacheClient(cache).load(random_bytes(100, seed=value), value=value)
        victim = CacheClient(cache)
        tensor, began = victim.allocated(LARGE), time.monotonic()
        for value in range(5):
            assert not victim.ask(tensor, value)
        assert time.monotonic() - began < 5 * 0.3
        stuck.set()


def test_client_waits_for_its_own_entries_not_for_pending_files_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MAX_PENDING", 2)
    monkeypatch.setattr(loading, "PENDING_TIMEOUT", 0.1)
    stuck = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (stuck.wait(30), fsync(fd)))
    with open_cache(tmp_path) as cache:
        fast = CacheClient(cache)
        for seed in range(6):
            fast.load(random_bytes(100, seed=seed))
        assert len(list(tmp_path.glob(f"*{PART}"))) == 2
        CacheClient(cache).load(random_bytes(100, seed=9))
        assert len(list(tmp_path.glob(f"*{PART}"))) == 3
        stuck.set()
    assert len(entry_names(tmp_path)) == 3


def test_empty_tensor_is_not_stored(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        assert cache.begin(0, 1, "empty") is None
