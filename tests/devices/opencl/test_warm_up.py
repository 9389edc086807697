"""Preparing a device for common models, without measuring anything for long."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyopencl as cl
import pytest

from ggrpc.devices.device import Buffer
from ggrpc.devices.opencl import OpenClDevice, tuning, warm_up
from ggrpc.devices.opencl.runtime import disk_cache, launch_config
from ggrpc.devices.opencl.runtime.build import Builder
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig
from ggrpc.errors import DeviceError, OutOfMemory
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


def test_warm_up_stops_between_two_kernels(
    device: OpenClDevice, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop of a server waits for one kernel, not for all of a graph."""
    launch_config.store(device.queue.device, LaunchConfig())  # measure nothing
    warm_up.warm_up(device, lambda: len(built) == 2, no)
    assert len(built) == 2
    launched: list[object] = []
    launch = cl.enqueue_nd_range_kernel

    def spy(*arguments: Any) -> cl.Event:
        launched.append(arguments)
        return launch(*arguments)

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", spy)
    warm_up.warm_up(device, lambda: bool(launched), no)
    assert len(launched) == 1


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


def test_kernels_are_compiled_for_the_measured_sizes(
    device: OpenClDevice, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(programs):  # type: ignore[no-untyped-def]
        return {values: 1.0 if values == (4,) else 9.0 for values in programs}

    monkeypatch.setattr(tuning, "_fastest", first)
    warm_up.warm_up(device, no, no)
    assert device.traits.launch_config.matvec_rows == 4
    built.clear()
    graph, size = next(warm_up._graphs())
    assert warm_up._run(device, graph, size, no)
    assert not built


def test_sessions_interrupt_a_warm_up_that_goes_on_later(
    device: OpenClDevice, built: list[str]
) -> None:
    launch_config.store(device.queue.device, LaunchConfig())  # measure nothing
    looks = iter([False] * 5 + [True] * 3)
    seen: list[int] = []

    def busy() -> bool:
        seen.append(len(built))
        return next(looks, False)

    warm_up.warm_up(device, no, busy)
    assert len(set(seen[5:9])) == 1
    assert len(built) > seen[8]
    assert disk_cache.load(warm_up._stamp(device)) is not None


def test_full_disk_is_left_alone(
    device: OpenClDevice,
    built: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """PoCL would end the process, although sessions may need no new kernel."""
    monkeypatch.setattr(warm_up, "MIN_DISK", 1 << 62)
    warm_up.warm_up(device, no, no)
    assert not built
    assert "too little disk space" in caplog.text


def test_warm_up_without_memory_gives_no_advice_for_clients(
    device: OpenClDevice,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    launch_config.store(device.queue.device, LaunchConfig())  # measure nothing

    def fail(size: int) -> Buffer:
        raise OutOfMemory("place fewer layers on this server")

    monkeypatch.setattr(device, "allocate", fail)
    with caplog.at_level(logging.INFO):
        warm_up.warm_up(device, no, no)
    assert caplog.messages == [
        f"{device.name}: too little memory to compile kernels beforehand"
    ]
    assert disk_cache.load(warm_up._stamp(device)) is None


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


def test_stopped_server_measures_nothing(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[object] = []
    choose = tuning._choice

    def spy(device, config, trial):  # type: ignore[no-untyped-def]
        measured.append(trial)
        return choose(device, config, trial)

    monkeypatch.setattr(tuning, "_choice", spy)
    warm_up.warm_up(device, lambda: bool(measured), no)
    assert len(measured) == 1
    assert not launch_config.is_stored(device.queue.device)


def test_launch_sizes_are_not_measured_without_memory_for_the_matrix(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "ROWS", 1 << 50)
    assert not tuning.measure_unless_known(device, no)


def test_launch_sizes_that_another_process_measured_meanwhile_stay(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = LaunchConfig(bands=4)
    choose = tuning._choice

    def tune_elsewhere(device, config, trial):  # type: ignore[no-untyped-def]
        launch_config.store(device.queue.device, tuned)
        return choose(device, config, trial)

    monkeypatch.setattr(tuning, "_choice", tune_elsewhere)
    assert not tuning.measure_unless_known(device, no)
    assert launch_config.launch_config_of(device.queue.device) == tuned


def test_failing_device_says_so(
    device: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self, family, defines):  # type: ignore[no-untyped-def]
        raise DeviceError(f"cannot build {family}")

    monkeypatch.setattr(Builder, "_build", fail)
    with pytest.raises(DeviceError, match="cannot build"):
        warm_up.warm_up(device, no, no)
