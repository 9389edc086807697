from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyopencl as cl
import pytest

from ggrpc.devices.opencl.runtime.discovery import Found, discover, unusable_reason
from ggrpc.errors import DeviceError
from tests.support.drivers import usable_device


def platform(name: str, *devices: str) -> SimpleNamespace:
    """A fake pyopencl platform."""
    driver = SimpleNamespace(name=name)
    found = [
        SimpleNamespace(
            name=device,
            global_mem_size=1 << 30,
            max_mem_alloc_size=1 << 28,
            platform=driver,
            type=cl.device_type.CPU if "cpu" in device else cl.device_type.GPU,
        )
        for device in devices
    ]
    driver.get_devices = lambda: found
    return driver


def test_devices_are_counted_over_all_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = [platform("A", "a0 ", "a1"), platform("Empty"), platform("B ", "cpu  0")]
    monkeypatch.setattr(cl, "get_platforms", lambda: drivers)
    assert [found[:5] for found in discover()] == [
        ("opencl:0", "a0 (A)", 1 << 30, 1 << 28, False),
        ("opencl:1", "a1 (A)", 1 << 30, 1 << 28, False),
        ("opencl:2", "cpu 0 (B )", 1 << 30, 1 << 28, True),
    ]


def test_broken_driver_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise cl.RuntimeError("clGetPlatformIDs failed: OUT_OF_HOST_MEMORY")

    monkeypatch.setattr(cl, "get_platforms", fail)
    with pytest.raises(DeviceError, match="OUT_OF_HOST_MEMORY"):
        discover()


def test_this_machine_answers_with_or_without_a_driver() -> None:
    try:
        cl.get_platforms()
    except cl.LogicError as error:
        assert "PLATFORM_NOT_FOUND" in str(error)  # noqa: PT017  some have a driver
        assert discover() == []
    else:
        for found in discover():
            assert found.description
            assert found.total > 0


@pytest.fixture
def found() -> Found:
    return usable_device()


def test_driver_that_cannot_build_says_so(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **named: Any) -> None:
        raise cl.RuntimeError("build failed: unknown target CPU 'generic'\nmore")

    monkeypatch.setattr(cl.Program, "build", fail)
    reason = unusable_reason(found)
    assert reason is not None
    assert "unknown target CPU 'generic'" in reason
    assert "\n" not in reason


def test_driver_that_computes_wrongly_is_found_out(
    found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cl, "enqueue_copy", lambda *arguments: None)
    assert "wrongly" in str(unusable_reason(found))
