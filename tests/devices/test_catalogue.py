from __future__ import annotations

import builtins
import os
import subprocess
import sys
from contextlib import closing

import pytest

from ggrpc.closable import Closable
from ggrpc.devices import catalogue, opencl
from ggrpc.devices.catalogue import Choices, DeviceListing
from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl.runtime import discovery
from ggrpc.devices.opencl.runtime.discovery import Found
from ggrpc.errors import ConfigError, DeviceError

GPU = Found("opencl:0", "GPU (Maker)", 8 << 30, 2 << 30, False, None)
PROCESSOR = Found("opencl:1", "CPU (Maker)", 8 << 30, 2 << 30, True, None)
BROKEN = "its driver failed on a small kernel: unknown target CPU"


class Opened(Closable):
    """A fake OpenCL device."""

    def __init__(self, found: Found, cpu: CpuDevice, profiling: bool) -> None:
        self.name = found.name
        self.cpu = cpu

    def close(self) -> None:
        self.cpu.close()


@pytest.fixture(autouse=True)
def drivers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Fake a GPU and a processor; returns the reasons against them, by name."""
    for name in ("POCL_MAX_PTHREAD_COUNT", "POCL_DEVICES", "DPCPP_CPU_NUM_CUS"):
        monkeypatch.setenv(name, "")  # so that it is as before afterwards
        monkeypatch.delenv(name)
    reasons: dict[str, str | None] = {"opencl:0": BROKEN, "opencl:1": None}
    monkeypatch.setattr(discovery, "discover", lambda: [GPU, PROCESSOR])
    monkeypatch.setattr(discovery, "unusable_reason", lambda found: reasons[found.name])
    monkeypatch.setattr(opencl, "OpenClDevice", Opened)
    return reasons


def test_entries_are_cpu_and_all_opencl_devices() -> None:
    cpu, gpu, processor = catalogue.entries()
    assert cpu.name == "cpu"
    assert cpu.unusable_reason is None
    assert cpu.free is not None and cpu.total is not None
    assert 0 < cpu.free <= cpu.total
    assert gpu == DeviceListing(
        "opencl:0", "GPU (Maker)", None, 8 << 30, 2 << 30, BROKEN
    )
    assert processor.unusable_reason is None


@pytest.mark.parametrize(
    ("gpu", "processor", "best"),
    [
        (None, None, "opencl:0"),
        (BROKEN, None, "opencl:1"),
        (BROKEN, BROKEN, "cpu"),
    ],
)
def test_best_is_a_gpu_then_an_opencl_cpu_then_the_cpu_device(
    drivers: dict[str, str | None],
    gpu: str | None,
    processor: str | None,
    best: str,
) -> None:
    drivers.update({"opencl:0": gpu, "opencl:1": processor})
    devices = catalogue.open_devices(None, Choices(threads=1))
    assert [device.name for device in devices] == [best]


def test_best_without_any_driver_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "discover", list)
    (device,) = catalogue.open_devices(None, Choices(threads=1))
    assert device.name == "cpu"


def test_opencl_cpu_uses_the_chosen_threads() -> None:
    (device,) = catalogue.open_devices("opencl:1", Choices(threads=3))
    assert isinstance(device, Opened)
    assert device.cpu.workers.threads == 3
    assert os.environ["POCL_MAX_PTHREAD_COUNT"] == "3"
    assert os.environ["DPCPP_CPU_NUM_CUS"] == "3"


def test_cpu_opens_with_its_options() -> None:
    (device,) = catalogue.open_devices("cpu", Choices(threads=1, weight_cache=1 << 20))
    assert isinstance(device, CpuDevice)
    with closing(device):
        assert device.workers.threads == 1
        assert device.weights.limit == 1 << 20


def test_devices_open_in_the_given_order() -> None:
    devices = catalogue.open_devices("cpu, CPU", Choices(threads=1))
    assert [device.name for device in devices] == ["cpu", "cpu"]


def test_unknown_device_is_refused_with_a_list() -> None:
    with pytest.raises(
        ConfigError, match="'cuda0' on this machine, only cpu, opencl:0, opencl:1"
    ):
        catalogue.open_devices("cuda0", Choices())
    with pytest.raises(ConfigError, match="'opencl:2'"):
        catalogue.open_devices("cpu,opencl:2", Choices())


def test_unusable_device_reports_the_reason() -> None:
    with pytest.raises(DeviceError, match="opencl:0 cannot be used: its driver"):
        catalogue.open_devices("opencl:0", Choices())


def test_broken_driver_is_listed_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> list[Found]:
        raise DeviceError("an OpenCL driver failed: OUT_OF_HOST_MEMORY")

    monkeypatch.setattr(discovery, "discover", fail)
    cpu, broken = catalogue.entries()
    assert cpu.unusable_reason is None
    assert broken.name == "opencl"
    assert broken.unusable_reason == "an OpenCL driver failed: OUT_OF_HOST_MEMORY"


def test_pyopencl_import_error_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **named: object) -> object:
        if name.endswith("runtime.discovery"):
            raise ImportError("libOpenCL.so.1: cannot open shared object file")
        return real(name, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert "libOpenCL.so.1" in str(catalogue.entries()[1].unusable_reason)


def test_pyopencl_is_imported_on_demand() -> None:
    code = (
        "import sys; from ggrpc.devices.catalogue import Choices, open_devices;"
        "open_devices('cpu', Choices(threads=1));"
        "print('pyopencl' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"
