"""The disk cache of compiled kernels, with valid and damaged files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyopencl as cl
import pytest

from ggrpc.devices.opencl.runtime import disk_cache
from ggrpc.devices.opencl.runtime.build import Builder, KernelKey
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig, launch_config_of
from tests.support.drivers import usable_device


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the disk cache of one test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # As with a driver that caches nothing by itself.
    monkeypatch.setattr("ggrpc.devices.opencl.runtime.build.POCL", "")
    return disk_cache.folder()


@pytest.fixture(scope="module")
def context() -> cl.Context:
    return cl.Context([usable_device().device])


def build(context: cl.Context) -> str:
    return Builder(context).program("proof").kernel_names


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without a home folder, as for an unknown user in a container."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The families that are compiled from their sources from now on."""
    families: list[str] = []
    original = Builder._compiled

    def note(self: Builder, family: str, *arguments: object) -> cl.Program:
        families.append(family)
        return original(self, family, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Builder, "_compiled", note)
    return families


def test_kernel_is_compiled_once(
    context: cl.Context, folder: Path, compiled: list[str]
) -> None:
    assert build(context) == build(context) == "twice"
    assert compiled == ["proof"]
    assert len(list(folder.iterdir())) == 1


def test_driver_with_a_cache_of_its_own_stores_no_binary(
    context: cl.Context, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = context.devices[0].platform.name
    monkeypatch.setattr("ggrpc.devices.opencl.runtime.build.POCL", name)
    assert build(context) == "twice"
    assert not folder.exists()


@pytest.mark.parametrize(("file", "again"), [("inner.h", True), ("other.h", False)])
def test_kernel_is_compiled_again_when_what_it_includes_changed(
    context: cl.Context,
    folder: Path,
    compiled: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    again: bool,
) -> None:
    sources = {
        "proof.cl": '#include "outer.h"\nkernel void twice(global int *x) { *x=TWO; }',
        "outer.h": '#include "inner.h"\n',
        "inner.h": "#define TWO 2\n",
        "other.h": "",
    }
    common = tmp_path / "common"
    common.mkdir()
    for name, text in sources.items():
        (common / name).write_text(text)
    monkeypatch.setattr("ggrpc.devices.opencl.runtime.build.KERNELS", tmp_path)
    build(context)
    (common / file).write_text("#define TWO (1 + 1)\n")
    build(context)
    assert compiled == ["proof", "proof"][: 1 + again]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no_program", "folder"])
def test_damaged_binary_is_compiled_anew(
    context: cl.Context, folder: Path, compiled: list[str], damage: str
) -> None:
    build(context)
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-9])
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no_program":  # complete, but of another driver
        disk_cache.store(path.name, b"something else")
    else:
        path.unlink()
        path.mkdir()
    assert build(context) == "twice"
    assert compiled == ["proof", "proof"]


def test_cache_that_cannot_be_written_costs_nothing_but_time(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert build(context) == build(context) == "twice"
    assert compiled == ["proof", "proof"]


def test_writers_at_the_same_time_leave_one_whole_file(folder: Path) -> None:
    contents = [bytes([n]) * 100_000 for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: disk_cache.store("same", each), contents))
    assert disk_cache.load("same") in contents
    assert [path.name for path in folder.iterdir()] == ["same"]


def test_kernel_object_is_used_again_when_it_is_given_back(context: cl.Context) -> None:
    builder = Builder(context)
    one, other = (builder.kernel(KernelKey("proof", (), "twice")) for _ in range(2))
    assert one.kernel is not other.kernel
    builder.give_back([one])
    assert builder.kernel(KernelKey("proof", (), "twice")).kernel is one.kernel
    assert builder.kernel(KernelKey("proof", (), "twice")).kernel is not one.kernel


def test_user_without_a_home_keeps_nothing(
    context: cl.Context, monkeypatch: pytest.MonkeyPatch, compiled: list[str]
) -> None:
    without_home(monkeypatch)
    assert build(context) == "twice"
    assert compiled == ["proof"]
    assert launch_config_of(context.devices[0]) == LaunchConfig()
