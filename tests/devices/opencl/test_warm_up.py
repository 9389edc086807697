"""Preparing a device for common models, without measuring anything for long."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ggrpc.devices.opencl import OpenClDevice, tuning, warm_up
from ggrpc.devices.opencl.runtime import disk_cache, launch_config
from ggrpc.devices.opencl.runtime.build import Builder
from ggrpc.errors import DeviceError
from tests.devices.conftest import open_opencl


def no() -> bool:
    return False


def yes() -> bool:
    return True


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenClDevice]:
    monkeypatch.setattr(warm_up, "MODELS", warm_up.MODELS[:1])
    monkeypatch.setattr(warm_up, "DELAY_SECONDS", 0)
    monkeypatch.setattr(tuning, "COLUMNS", 64)
    monkeypatch.setattr(tuning, "ROWS", 96)
    monkeypatch.setattr(disk_cache, "folder", lambda: tmp_path)
    with open_opencl(shares_memory=True) as device:
        yield device


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The sources that are built from here on."""
    families: list[str] = []
    build = Builder._build

    def spy(self, family, defines):  # type: ignore[no-untyped-def]
        families.append(family)
        return build(self, family, defines)

    monkeypatch.setattr(Builder, "_build", spy)
    return families


def test_kernels_of_a_common_model_are_built_once(
    device: OpenClDevice, built: list[str]
) -> None:
    warm_up.warm_up(device, no, no)
    assert {"matvec_several", "matmat", "attention", "rope", "norms_quantize"} < {
        *built
    }
    built.clear()
    with open_opencl(shares_memory=True) as another:
        built.clear()
        warm_up.warm_up(another, no, no)
    assert not built


def test_warm_up_of_a_changed_kernel_starts_again(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = warm_up._stamp(device)
    assert warm_up._stamp(device) == before
    copies = tmp_path / "kernels"
    shutil.copytree(warm_up.KERNELS, copies)
    monkeypatch.setattr(warm_up, "KERNELS", copies)
    assert warm_up._stamp(device) == before
    with (copies / "common" / "norms.cl").open("a") as file:
        file.write("\n")
    assert warm_up._stamp(device) != before


def test_every_common_model_can_be_computed(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    graphs = list(warm_up._graphs())
    assert len(graphs) == 2 * len(warm_up.MODELS)
    assert all(device.supports(node) for graph, _ in graphs for node in graph.nodes)


def test_stopped_warm_up_compiles_nothing(
    device: OpenClDevice, built: list[str]
) -> None:
    warm_up.warm_up(device, yes, no)
    assert not built


def test_warm_up_waits_while_sessions_compute(
    device: OpenClDevice, built: list[str]
) -> None:
    looks = iter([True, True, False])
    seen: list[int] = []

    def busy() -> bool:
        seen.append(len(built))
        return next(looks, False)

    warm_up.warm_up(device, no, busy)
    assert seen[:3] == [0, 0, 0]
    assert built


def test_launch_sizes_are_measured_once(device: OpenClDevice) -> None:
    assert tuning.measure_unless_known(device, no)
    assert launch_config.launch_config_of(device.queue.device) == (
        device.traits.launch_config
    )
    assert not tuning.measure_unless_known(device, no)


def test_launch_sizes_are_not_measured_while_sessions_compute(
    device: OpenClDevice,
) -> None:
    before = device.traits
    assert not tuning.measure_unless_known(device, yes)
    assert device.traits == before
    assert not launch_config.is_stored(device.queue.device)


def test_failing_device_says_so(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self, family, defines):  # type: ignore[no-untyped-def]
        raise DeviceError(f"cannot build {family}")

    monkeypatch.setattr(Builder, "_build", fail)
    with pytest.raises(DeviceError, match="cannot build"):
        warm_up.warm_up(device, no, no)
