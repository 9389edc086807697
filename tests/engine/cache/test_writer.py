"""Writers that are killed, closed early, or given the same tensor twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ggrpc.engine.cache.fnv1a import fnv1a, hash_name
from ggrpc.engine.cache.folder import LOCK, PART
from ggrpc.engine.cache.index import FILE
from tests.support.caches import (
    LARGE,
    CacheClient,
    cache_size,
    entry_names,
    open_cache,
    random_bytes,
)
from tests.support.paths import ROOT

DATA = random_bytes()

# Kills itself before or after the n-th call of a function.
WRITER = """
import os, signal, sys
from pathlib import Path
from ggrpc.engine.cache.index import Index
from tests.support.caches import CacheClient, random_bytes, open_cache

folder, where, name, count, when = sys.argv[1:]
owner = {"os": os, "index": Index}[where]
real, left = getattr(owner, name), int(count)

def fatal(*arguments, **named):
    global left
    left -= 1
    if not left and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = real(*arguments, **named)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

with open_cache(Path(folder)) as cache:
    sender, data = CacheClient(cache), random_bytes()
    setattr(owner, name, fatal)
    sender.load(data)
"""

STAGES = [
    ("os", "ftruncate", 1),
    ("os", "pwrite", 1),
    ("os", "pwrite", 2),
    ("os", "pwrite", 3),
    ("os", "fsync", 1),
    ("os", "replace", 1),
    ("os", "fsync", 2),
    ("index", "add_entry", 1),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("where", "name", "count"), STAGES)
def test_killed_writer_leaves_no_wrong_entry(
    tmp_path: Path, where: str, name: str, count: int, when: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, tmp_path, where, name, str(count), when],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    for entry in entry_names(tmp_path):
        assert hash_name(fnv1a((tmp_path / entry).read_bytes())) == entry
    with open_cache(tmp_path) as cache:
        CacheClient(cache).load(DATA)  # checks the bytes that arrive
        CacheClient(cache).load(random_bytes(100), value=1)
    assert not list(tmp_path.glob(f"*{PART}"))
    assert cache_size(tmp_path) == LARGE + 100


@pytest.mark.parametrize("announced", [1, None])
def test_close_discards_unfinished_entries(
    tmp_path: Path, announced: int | None
) -> None:
    with open_cache(tmp_path) as cache:
        begun = cache.begin(LARGE, announced, "never sent")
        assert begun is not None
        cache.close(0.01)
    assert begun.done.is_set()
    assert {path.name for path in tmp_path.iterdir()} == {LOCK, FILE}


def test_complete_tensor_that_is_pending_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (stuck.wait(30), fsync(fd)))
    with open_cache(tmp_path) as cache:
        begun, beside = (cache.begin(LARGE, 1, name) for name in ("first", "second"))
        assert begun is not None
        assert beside is not None  # the first one may never be complete
        begun.write(memoryview(DATA))
        assert cache.begin(LARGE, 1, "third") is None
        beside.discard_incomplete()
        stuck.set()
