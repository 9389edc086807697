from __future__ import annotations

from types import SimpleNamespace

import pyopencl as cl
import pytest

from ggrpc.devices.opencl.discovery import Found, discover
from ggrpc.errors import DeviceError


def platform(name: str, *devices: str) -> SimpleNamespace:
    """What pyopencl shows of a driver."""
    driver = SimpleNamespace(name=name)
    found = [
        SimpleNamespace(name=device, global_mem_size=1 << 30, platform=driver)
        for device in devices
    ]
    driver.get_devices = lambda: found
    return driver


def test_devices_are_counted_over_all_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers = [platform("A", "a0 ", "a1"), platform("Empty"), platform("B ", "b  0")]
    monkeypatch.setattr(cl, "get_platforms", lambda: drivers)
    assert discover() == [
        Found("opencl:0", "a0 (A)", 1 << 30),
        Found("opencl:1", "a1 (A)", 1 << 30),
        Found("opencl:2", "b 0 (B )", 1 << 30),
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
        assert "PLATFORM_NOT_FOUND" in str(error)
        assert discover() == []
    else:
        for found in discover():
            assert found.description
            assert found.total > 0
