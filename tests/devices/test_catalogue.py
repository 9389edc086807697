from __future__ import annotations

import builtins
import subprocess
import sys
from contextlib import closing

import pytest

from ggrpc.devices import catalogue
from ggrpc.devices.catalogue import Choices, Entry
from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl import discovery
from ggrpc.devices.opencl.discovery import Found
from ggrpc.errors import ConfigError, DeviceError


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Found("opencl:0", "GPU (Maker)", 8 << 30)
    monkeypatch.setattr(discovery, "discover", lambda: [found])


def test_entries_are_the_cpu_and_every_opencl_device() -> None:
    cpu, gpu = catalogue.entries()
    assert cpu.name == "cpu"
    assert cpu.why_not is None
    assert cpu.free is not None and cpu.total is not None
    assert 0 < cpu.free <= cpu.total
    why_not = "this version has no OpenCL kernels yet"
    assert gpu == Entry("opencl:0", "GPU (Maker)", None, 8 << 30, why_not)


def test_cpu_opens_as_chosen() -> None:
    (device,) = catalogue.open_devices("cpu", Choices(threads=1, weight_cache=1 << 20))
    assert isinstance(device, CpuDevice)
    with closing(device):
        assert device.workers.threads == 1
        assert device.weights.limit == 1 << 20


def test_several_open_in_the_order_given() -> None:
    devices = catalogue.open_devices("cpu, CPU", Choices(threads=1))
    assert [device.name for device in devices] == ["cpu", "cpu"]


def test_unknown_device_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="'cuda0' here, only cpu, opencl:0"):
        catalogue.open_devices("cuda0", Choices())
    with pytest.raises(ConfigError, match="'opencl:1'"):
        catalogue.open_devices("cpu,opencl:1", Choices())


def test_device_that_cannot_be_used_says_why() -> None:
    with pytest.raises(DeviceError, match="opencl:0 cannot be used: this version"):
        catalogue.open_devices("opencl:0", Choices())


def test_broken_driver_is_listed_with_its_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> list[Found]:
        raise DeviceError("an OpenCL driver failed: OUT_OF_HOST_MEMORY")

    monkeypatch.setattr(discovery, "discover", fail)
    cpu, opencl = catalogue.entries()
    assert cpu.why_not is None
    assert opencl.name == "opencl"
    assert opencl.why_not == "an OpenCL driver failed: OUT_OF_HOST_MEMORY"


def test_pyopencl_that_cannot_be_loaded_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name.endswith("opencl.discovery"):
            raise ImportError("libOpenCL.so.1: cannot open shared object file")
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert "libOpenCL.so.1" in str(catalogue.entries()[1].why_not)


def test_pyopencl_is_loaded_only_when_asked_for() -> None:
    code = (
        "import sys; from ggrpc.devices.catalogue import Choices, open_devices;"
        "open_devices('cpu', Choices(threads=1));"
        "print('pyopencl' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"
