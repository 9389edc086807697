"""Choosing among the drivers of a processor, with and without measurements."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ggrpc.devices.opencl import measuring, rivals, tuning
from ggrpc.devices.opencl.rivals import fastest
from ggrpc.devices.opencl.runtime import disk_cache, launch_config, other_process, speed
from ggrpc.devices.opencl.runtime.build import POCL
from ggrpc.devices.opencl.runtime.discovery import Found
from ggrpc.errors import DeviceError
from tests.support.drivers import usable_device


def processor(number: int, platform: str) -> Found:
    driver = SimpleNamespace(name=platform, version=f"1 {platform}")
    device = SimpleNamespace(
        name="CPU", version="3.0", driver_version="1", platform=driver
    )
    return Found(f"opencl:{number}", f"CPU ({platform})", 1, 1, True, device)


INTEL, PORTABLE = processor(0, "Intel(R) OpenCL"), processor(1, POCL)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers of which nothing is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rivals, "discover", lambda: [INTEL, PORTABLE])


def no() -> bool:
    return False


def run(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the other process run a piece of code instead of a measurement."""
    monkeypatch.setattr(other_process, "CODE", code)


@pytest.mark.parametrize(
    ("intel", "pocl", "expected"),
    [
        (None, None, PORTABLE),
        (50.0, None, PORTABLE),
        (None, 100.0, PORTABLE),
        (50.0, 100.0, INTEL),
        (99.0, 100.0, PORTABLE),  # that may be noise
        (100.0, 50.0, PORTABLE),
        (speed.FAILED, 100.0, PORTABLE),
        (100.0, speed.FAILED, INTEL),
    ],
)
def test_fastest_is_pocl_unless_another_was_measured_to_be_faster(
    intel: float | None, pocl: float | None, expected: Found
) -> None:
    for found, milliseconds in ((INTEL, intel), (PORTABLE, pocl)):
        if milliseconds is not None:
            speed.store(found.device, milliseconds)
    assert fastest([INTEL, PORTABLE]) == expected


def test_only_driver_is_the_fastest() -> None:
    assert fastest([INTEL]) == INTEL


def test_damaged_measurement_is_none() -> None:
    speed.store(INTEL.device, 50.0)
    path = disk_cache.folder() / speed._name(INTEL.device)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert speed.known(INTEL.device) is None


def test_driver_that_ends_its_process_counts_as_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(monkeypatch, "import os; os.abort()")
    speed.store(PORTABLE.device, 100.0)
    rivals.measure(PORTABLE.device, no, no)
    assert speed.known(INTEL.device) == speed.FAILED
    assert speed.known(PORTABLE.device) == 100.0


def test_only_driver_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rivals, "discover", lambda: [INTEL])
    run(monkeypatch, "import os; os.abort()")
    rivals.measure(INTEL.device, no, no)
    assert speed.known(INTEL.device) is None


def test_drivers_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    speed.store(INTEL.device, 50.0)
    speed.store(PORTABLE.device, 50.0)
    run(monkeypatch, "import os; os.abort()")
    rivals.measure(PORTABLE.device, no, no)
    assert speed.known(INTEL.device) == speed.known(PORTABLE.device) == 50.0


def test_faster_driver_is_announced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    speed.store(PORTABLE.device, 100.0)
    monkeypatch.setattr(
        rivals, "_measured", lambda found, _: speed.store(found.device, 50.0) or True
    )
    rivals.measure(PORTABLE.device, no, no)
    assert "opencl:0, CPU (Intel(R) OpenCL), is faster" in caplog.text


@pytest.mark.parametrize("disturbance", ["stopped", "busy"])
def test_disturbed_measurement_is_left_for_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disturbance: str
) -> None:
    started = tmp_path / "started"
    run(
        monkeypatch,
        f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid()))\n"
        "while True: time.sleep(1)",
    )
    monkeypatch.setattr(rivals, "POLL_SECONDS", 0.01)

    def has_started() -> bool:
        return started.exists() and bool(started.read_text())

    asked: dict[str, Callable[[], bool]] = {"stopped": no, "busy": no}
    asked[disturbance] = has_started
    rivals.measure(PORTABLE.device, **asked)
    assert speed.known(INTEL.device) is None
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_process_that_cannot_be_started_is_a_device_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(other_process.sys, "executable", "/nonexistent/python")
    with pytest.raises(DeviceError, match="opencl:0 cannot be measured"):
        rivals.measure(PORTABLE.device, no, no)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Found:
    """A driver of this machine, for products that take no time."""
    monkeypatch.setattr(tuning, "COLUMNS", 64)
    monkeypatch.setattr(tuning, "ROWS", 96)
    return usable_device()


def test_process_that_measures_stores_sizes_and_a_time(small: Found) -> None:
    assert measuring.main(small.name) == 0
    assert launch_config.is_stored(small.device)
    milliseconds = speed.known(small.device)
    assert milliseconds is not None
    assert 0 < milliseconds < speed.FAILED


def test_process_that_finds_no_device_fails() -> None:
    assert measuring.main("opencl:99") == 1
