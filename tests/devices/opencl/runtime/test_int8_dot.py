from __future__ import annotations

from pathlib import Path

import pyopencl as cl
import pytest

from ggrpc.devices.opencl.runtime import int8_dot as module
from ggrpc.devices.opencl.runtime import other_process
from ggrpc.devices.opencl.runtime.int8_dot import CORRECT, REQUIRED_FLAGS, int8_dot
from tests.support.drivers import usable_device


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> cl.Device:
    """A processor, of whose driver nothing is known yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = usable_device()
    return found.device


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """The flags of a processor that has all instructions."""
    flags = " ".join(sorted(set[str]().union(*REQUIRED_FLAGS.values())))
    path = tmp_path / "cpuinfo"
    path.write_text(f"flags : {flags}\n")
    return path


def try_elsewhere(
    monkeypatch: pytest.MonkeyPatch, code: str = other_process.CODE
) -> None:
    """Let another process run a piece of code, whichever the driver is."""
    monkeypatch.setattr(module, "POCL", "another driver")
    monkeypatch.setattr(other_process, "CODE", code)


def test_another_process_finds_the_same(
    device: cl.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = int8_dot(device)
    try_elsewhere(monkeypatch)
    assert int8_dot(device) == expected


def test_result_of_another_process_is_kept(
    device: cl.Device, everything: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try_elsewhere(monkeypatch, f"raise SystemExit({CORRECT})")
    assert int8_dot(device, everything) == "VNNI"
    try_elsewhere(monkeypatch, "raise SystemExit(1)")
    assert int8_dot(device, everything) == "VNNI"


def test_process_that_takes_too_long_is_tried_again(
    device: cl.Device, everything: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.1)
    try_elsewhere(monkeypatch, "while True: pass")
    assert int8_dot(device, everything) == ""
    monkeypatch.setattr(module, "SECONDS", 60.0)
    try_elsewhere(monkeypatch, f"raise SystemExit({CORRECT})")
    assert int8_dot(device, everything) == "VNNI"


@pytest.mark.parametrize("code", ["import os; os.abort()", "while True: pass"])
def test_driver_that_aborts_or_hangs_gets_portable_code(
    device: cl.Device, everything: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    try_elsewhere(monkeypatch, code)
    monkeypatch.setattr(module, "SECONDS", 0.5)
    assert int8_dot(device, everything) == ""


def test_driver_that_computes_wrongly_gets_portable_code(
    device: cl.Device, everything: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_expected", lambda: module.np.zeros((4, 16), "i4"))
    monkeypatch.setattr(module, "POCL", device.platform.name)
    assert int8_dot(device, everything) == ""


def test_processor_without_the_instructions_gets_portable_code(
    device: cl.Device, tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("flags : sse2\n")
    assert int8_dot(device, path) == ""
    assert int8_dot(device, tmp_path / "missing") == ""
