from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ggrpc.commands.environment import Environment
from ggrpc.commands.main import run
from ggrpc.engine.cache.fnv1a import fnv1a, hash_name
from tests.commands.conftest import Terminal
from tests.support.caches import (
    LARGE,
    CacheClient,
    entry_names,
    open_cache,
    random_bytes,
    write_gguf,
)

DATA = random_bytes()
NAME = hash_name(fnv1a(DATA))
DAY = 86_400


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default folder of the cache, with one entry."""
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path))
    with open_cache(tmp_path / "rpc") as cache:
        CacheClient(cache).load(DATA)
    return tmp_path / "rpc"


def test_path_is_that_of_llama_cpp(piped, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("LLAMA_CACHE", "/a")
    assert piped("cache", "path") == (0, "/a/rpc\n", "")
    monkeypatch.delenv("LLAMA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert piped("cache", "path").out in ("/b/llama.cpp/rpc\n",)
    assert piped("cache", "path", "--cache-dir", "/c").out == "/c\n"


def test_ls_of_ten_thousand_entries_has_a_row_for_each(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for number in range(10_000):
        (tmp_path / f"{number:016x}").touch()
    (tmp_path / "foreign").touch()
    code, out, err = piped("cache", "ls", "--cache-dir", str(tmp_path), "--no-headers")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 10_000
    terminal = Terminal()
    command = ["cache", "ls", "--cache-dir", str(tmp_path), "--no-headers"]
    assert run(command, Environment(terminal, Terminal(), 100)) == 0
    assert len(terminal.getvalue().splitlines()) == 10_000


def test_ls_has_tensors_and_models(piped, cache: Path) -> None:  # type: ignore[no-untyped-def]
    (row,) = piped("cache", "ls", "--json").rows
    assert row.pop("age_seconds") < 600
    assert row.pop("unused_seconds") < 600
    assert row == {
        "hash": NAME,
        "kind": "entry",
        "size_bytes": LARGE,
        "tensor": "blk.0",
        "model": None,
    }


def test_ls_of_an_empty_cache_is_empty(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert piped("cache", "ls", "--cache-dir", str(tmp_path / "new")) == (0, "", "")


def test_add_indexes_a_model_for_serve(piped, cache: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = random_bytes(seed=1)
    model = write_gguf(tmp_path / "model.gguf", data)
    row = {"model": str(model), "tensors": 1, "hashed": 1, "hashed_bytes": LARGE}
    dry = piped("cache", "add", str(model), "--dry-run", "--json")
    assert dry.rows == [{**row, "result": "not done"}]
    assert piped("cache", "add", str(model), "--json").rows == [{**row, "result": "ok"}]
    (again,) = piped("cache", "add", str(tmp_path), "--json").rows
    assert (again["hashed"], again["hashed_bytes"]) == (0, 0)
    with open_cache(cache) as served:
        assert CacheClient(served).load(data)
    assert entry_names(cache) == [NAME]


def test_add_continues_after_an_invalid_model(
    piped, cache: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    write_gguf(tmp_path / "b.gguf", random_bytes(seed=1))
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    code, out, err = piped("cache", "add", str(tmp_path), "--json")
    assert code == 9
    assert "a.gguf is not a valid GGUF" in err
    assert '"failed"' in out
    assert '"ok"' in out


def test_verify_of_an_intact_cache_lists_nothing(piped, cache: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = piped("cache", "verify")
    assert (code, err) == (0, "")
    _, total = out.splitlines()
    assert total.split()[0] == "total" and "1 checked, 0 of them damaged" in total
    assert piped("cache", "verify", "--no-headers") == (0, "", "")
    (row,) = piped("cache", "verify", "--json").rows
    assert row["result"] == "ok"


def test_verify_removes_damaged_entries_and_exits_1(piped, cache: Path) -> None:  # type: ignore[no-untyped-def]
    (cache / NAME).write_bytes(b"wrong")
    code, out, _ = piped("cache", "verify", "--dry-run")
    assert (code, entry_names(cache)) == (1, [NAME])
    assert out.splitlines()[1].split()[-4:] == [
        *("would", "be", "removed"),
        str(cache / NAME),
    ]
    assert "1 checked, 1 of them damaged" in out
    assert piped("cache", "verify").code == 1
    assert entry_names(cache) == []


def test_prune_removes_by_age_and_by_size(piped, cache: Path) -> None:  # type: ignore[no-untyped-def]
    names = [f"{number:016x}" for number in range(4)]
    for days, name in enumerate(names):
        (cache / name).write_bytes(bytes(100))
        used = time.time() - (10 * days + 1) * DAY
        os.utime(cache / name, (used, used))
    flags = "prune", "--older-than", "25d", "--limit", str(LARGE + 150), "--json"
    dry = piped("cache", *flags, "--dry-run").rows
    assert [row["hash"] for row in dry] == [names[3], names[2], names[1]]
    assert len(entry_names(cache)) == 5
    assert [row["hash"] for row in piped("cache", *flags).rows] == names[:0:-1]
    assert entry_names(cache) == sorted([names[0], NAME])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "nothing to prune"),
        (("--older-than", "old"), "'old' is not a valid age"),
        (("--limit", "much"), "'much' is not a valid size"),
    ],
)
def test_prune_needs_a_valid_limit(piped, flags: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = piped("cache", "prune", *flags)
    assert code == 2
    assert message in err


def test_invalid_folder_exits_9(piped, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").touch()
    code, _, err = piped("cache", "ls", "--cache-dir", str(tmp_path / "file"))
    assert code == 9
    assert "cannot be used" in err


@pytest.mark.parametrize("part", ["ls", "add", "verify", "prune", "path"])
def test_help_of_each_part_ends_with_an_example(
    part: str, capsys: pytest.CaptureFixture[str], piped
) -> None:  # type: ignore[no-untyped-def]
    assert piped("cache", part, "-h").code == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1].startswith(f"    ggrpc cache {part}")
    assert "--debug" in text


def test_verify_shows_a_bar_in_a_terminal(cache: Path) -> None:
    stdout, stderr = Terminal(), Terminal()
    assert run(["cache", "verify"], Environment(stdout, stderr, 100)) == 0
    assert "checking" in stderr.getvalue()
    assert "1 checked, 0 of them damaged" in stdout.getvalue()


def test_lists_end_with_a_total(piped, cache: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = write_gguf(
        tmp_path / "model.gguf", random_bytes(seed=1), random_bytes(seed=2)
    )
    assert piped("cache", "add", str(model)).code == 0
    lines = piped("cache", "ls").out.splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [
        ["total", "entry"],
        ["total", "model"],
    ]
    assert "1 tensors" in lines[-2] and "2 tensors" in lines[-1]
    assert len(piped("cache", "ls", "--json").rows) == 3
    pruned = piped("cache", "prune", "--limit", "0", "--dry-run")
    assert "1 would be removed" in pruned.out.splitlines()[-1]
    assert "1 removed" in piped("cache", "prune", "--limit", "0").out.splitlines()[-1]


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    "command",
    [
        ("ls",),
        ("add", "MODEL", "--dry-run"),
        ("verify", "--dry-run"),
        ("prune", "--limit", "0", "--dry-run"),
    ],
)
def test_looking_leaves_the_folder_as_it_was(  # type: ignore[no-untyped-def]
    piped, cache: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    model = write_gguf(tmp_path / "model.gguf", random_bytes(seed=1))
    assert piped("cache", "add", str(model)).code == 0
    write_gguf(model, random_bytes(seed=2))  # its index is out of date
    arguments = [str(model) if word == "MODEL" else word for word in command]
    before = tree(cache)
    outcome = piped("cache", *arguments, "--json")
    assert outcome.code in (0, 1)
    assert tree(cache) == before
    new = tmp_path / "new"
    assert piped("cache", *arguments, "--cache-dir", str(new)).code == 0
    assert not new.exists()


def without_privileges(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command without root's permission to write everywhere."""
    drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    return subprocess.run(
        [
            *(drop if os.geteuid() == 0 else []),
            sys.executable,
            "-m",
            "ggrpc",
            *arguments,
        ],
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"),
    reason="needs setpriv of util-linux",
)
@pytest.mark.parametrize(
    "command", [("add", "MODEL"), ("verify",), ("prune", "--limit", "0")]
)
def test_folder_that_cannot_be_written_is_an_error(  # type: ignore[no-untyped-def]
    cache: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    model = write_gguf(tmp_path / "model.gguf", random_bytes(seed=1))
    arguments = [str(model) if word == "MODEL" else word for word in command]
    cache.chmod(0o555)
    try:
        done = without_privileges("cache", *arguments)
        looked = without_privileges("cache", "ls", "--json")
    finally:
        cache.chmod(0o755)
    assert (done.returncode, done.stdout) == (9, "")
    assert f"the cache {cache} cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (looked.returncode, looked.stderr) == (0, "")
    assert NAME in looked.stdout


def test_index_that_cannot_be_written_is_an_error(  # type: ignore[no-untyped-def]
    piped, tmp_path: Path
) -> None:
    model = write_gguf(tmp_path / "model.gguf", random_bytes(seed=1))
    (tmp_path / "c" / "ggrpc.sqlite").mkdir(parents=True)
    arguments = ("add", str(model), "--cache-dir", str(tmp_path / "c"))
    code, out, err = piped("cache", *arguments)
    assert (code, out) == (9, "")
    assert "cannot write" in err and err.count("\n") == 1
