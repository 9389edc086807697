from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ggrpc.commands import push
from ggrpc.engine.cache import warming
from ggrpc.engine.server.session import Session
from ggrpc.engine.wire import messages as m
from tests.support.caches import write_gguf
from tests.support.paths import NEWEST
from tests.support.processes import Served, native_serving, serving
from tests.support.servers import running

LARGE = 11 << 20  # bytes, above what a cache keeps


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random_bytes = np.random.default_rng(0).bytes
    folder = tmp_path_factory.mktemp("model")
    return write_gguf(
        folder / "m.gguf", random_bytes(LARGE), random_bytes(LARGE), b"small"
    )


@pytest.fixture
def caching(tmp_path: Path) -> Iterator[Served]:
    with serving("--cache-dir", str(tmp_path / "kept")) as served:
        yield served


def test_weights_are_sent_once(piped, caching: Served, model: Path) -> None:  # type: ignore[no-untyped-def]
    command = ("push", str(model), str(caching.endpoint), "--json")
    (row,) = piped(*command, "--dry-run").rows
    assert (row["present"], row["sent"], row["dry_run"]) == (0, 2, True)
    planned = piped(*command[:-1], "--dry-run").out
    assert "TO SEND" in planned and "  SENT" not in planned
    (row,) = piped(*command).rows
    assert (row["present"], row["sent"], row["sent_bytes"]) == (0, 2, 2 * LARGE)
    outcome = piped(*command)
    assert (outcome.code, outcome.rows[0]["present"]) == (0, 2)


@pytest.mark.parametrize("release", [NEWEST, "0.3.36", "0.3.17"])
def test_native_cache_is_warmed(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path, model: Path, release: str
) -> None:
    folder = tmp_path / "native"
    folder.mkdir()
    with native_serving(release, "--cache", str(folder)) as server:
        for expected in ((0, 2), (2, 0)):
            (row,) = piped("push", str(model), str(server), "--json").rows
            assert (row["present"], row["sent"]) == expected
    assert len(list(folder.rglob("*"))) >= 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--dry-run"], r"took \d+ s to look for 22.0 MiB in its cache"),
        ([], "has not stored a tensor of .* check its disk"),
    ],
)
def test_server_that_looks_for_tensors_very_slowly_exceeds_the_timeout(  # type: ignore[no-untyped-def]
    piped, tmp_path, flags, told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each single reply is in time."""
    monkeypatch.setattr(warming, "DISK_BYTES_PER_SECOND", 1 << 30)
    monkeypatch.setattr(warming, "PENDING_TIMEOUT", 1.0)
    data = np.random.default_rng(1).bytes
    model = write_gguf(tmp_path / "m.gguf", *(data(LARGE) for _ in range(4)))
    handle = Session.handle

    def slow(session: Session, request: Any, link: Any) -> Any:
        if isinstance(request, m.SetTensorHash):
            time.sleep(1.2)
        return handle(session, request, link)

    monkeypatch.setattr(Session, "handle", slow)
    with running(host="127.0.0.1") as server:
        start = time.monotonic()
        code, _, err = piped("push", str(model), str(server), "--timeout", "2", *flags)
        assert time.monotonic() - start < 10
    assert code == (4 if flags else 5)
    assert re.search(told, err)


def test_server_without_a_cache_is_an_error(piped, model: Path) -> None:  # type: ignore[no-untyped-def]
    with serving() as served:
        outcome = piped("push", str(model), str(served.endpoint), "127.0.0.1:1")
    assert outcome.code == 6
    assert f"{served.endpoint} does not store tensors in its cache" in outcome.err
    assert "cannot connect to 127.0.0.1:1" in outcome.err


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


def test_arrays_are_read_back(piped, served: Served, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one, two = np.ones((3, 5), np.float32), np.arange(7, dtype=np.int32)
    np.save(tmp_path / "one.npy", one)
    np.savez(tmp_path / "both.npz", one=one, two=two)
    header = json.dumps(
        {"x": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}
    ).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(12)
    (tmp_path / "x.safetensors").write_bytes(whole)
    expected = {"one.npy": (1, 60), "both.npz": (2, 88), "x.safetensors": (1, 12)}
    for name, (count, size) in expected.items():
        path = str(tmp_path / name)
        (row,) = piped("push", path, str(served.endpoint), "--json").rows
        assert (row["sent"], row["sent_bytes"]) == (count, size)


@pytest.mark.parametrize(
    ("name", "contents", "code", "said"),
    [
        ("x.txt", b"", 2, "an unknown suffix"),
        ("x.npy", b"no numpy", 9, "not a valid .npy file"),
        ("x.safetensors", b"\xff" * 20, 9, "not a valid .safetensors file"),
        ("x.gguf", b"GGUF" + bytes(20), 9, "not a valid GGUF"),
    ],
)
def test_unreadable_file_is_an_error(  # type: ignore[no-untyped-def]
    piped,
    served: Served,
    tmp_path: Path,
    name: str,
    contents: bytes,
    code: int,
    said: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(contents)
    outcome = piped("push", str(path), str(served.endpoint))
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err and outcome.err.count("\n") == 1


@pytest.fixture
def damaged(tmp_path: Path) -> dict[str, Path]:
    """Damaged files of each format."""
    gguf = b"GGUF" + struct.pack("<I", 3)
    header = b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}'
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.save(tmp_path / "whole.npy", np.ones(100))
    np.savez(tmp_path / "whole.npz", x=np.ones(100))
    contents = {
        "magic.npy": b"no numpy",
        "empty.npy": b"",
        "cut.npy": (tmp_path / "whole.npy").read_bytes()[:300],
        "objects.npy": (tmp_path / "objects.npy").read_bytes(),
        "magic.npz": b"no zip",
        "cut.npz": (tmp_path / "whole.npz").read_bytes()[:300],
        "empty.safetensors": b"",
        "json.safetensors": struct.pack("<Q", 3) + b"{x}",
        "cut.safetensors": struct.pack("<Q", len(header)) + header + b"1234",
        "magic.gguf": b"GGML" + bytes(100),
        "version.gguf": b"GGUF" + bytes(20),
        "counts.gguf": gguf + struct.pack("<QQ", 1 << 40, 1 << 40),
        "cut.gguf": gguf + struct.pack("<QQ", 1, 0) + bytes(5),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


def test_damaged_files_are_told_without_the_words_of_libraries(  # type: ignore[no-untyped-def]
    piped, served: Served, damaged: dict[str, Path]
) -> None:
    foreign = r"Errno|axis|dtype|divisor|magic|mmap|zip file|Expecting|Sorry|expected"
    for name, path in damaged.items():
        outcome = piped("push", str(path), str(served.endpoint))
        assert (outcome.code, outcome.out) == (9, ""), name
        assert str(path) in outcome.err and outcome.err.count("\n") == 1
        assert not re.search(foreign, outcome.err.replace(str(path), "")), outcome.err


def test_dry_run_of_arrays_is_an_error(piped, served: Served, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.ones(4))
    command = ("push", str(tmp_path / "x.npy"), str(served.endpoint), "--dry-run")
    assert piped(*command).code == 2


def test_shared_tensors_can_be_pulled(piped, served: Served, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", array)
    endpoint = str(served.endpoint)
    command = ["push", str(tmp_path / "x.npy"), endpoint, "--hold"]
    holder = subprocess.Popen([sys.executable, "-m", "ggrpc", *command])
    try:
        copy = tmp_path / "copy.npy"
        deadline = time.monotonic() + 30
        while piped("pull", endpoint, "x", "-o", str(copy)).code:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert np.array_equal(np.load(copy), array)
    finally:
        holder.terminate()
        holder.wait()


def test_error_tells_how_much_had_arrived(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    half, whole = np.ones(1 << 18, np.float32), np.ones(1 << 20, np.float32)
    np.savez(tmp_path / "x.npz", half=half, whole=whole)
    with serving("--max-memory", "3M") as served:
        outcome = piped("push", str(tmp_path / "x.npz"), str(served.endpoint))
    assert (outcome.code, outcome.out) == (8, "")
    assert "cannot allocate 4194304 bytes" in outcome.err
    assert "; 1.0 MiB of 5.0 MiB had arrived\n" in outcome.err


def test_lost_server_ends_hold(piped, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.ones(3))
    with serving() as served:
        watch = push._watch

        def watch_it_go(*arguments: object) -> int:
            served.process.terminate()
            served.process.wait()
            return watch(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(push, "POLL_SECONDS", 0.1)
        monkeypatch.setattr(push, "_watch", watch_it_go)
        command = ("push", str(tmp_path / "x.npy"), str(served.endpoint), "--hold")
        outcome = piped(*command, "--json")
    assert outcome.code == 6
    assert outcome.rows[0]["sent"] == 1
    assert f"{served.endpoint} closed the connection" in outcome.err
