"""The memory of the cpu device, and several sessions at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.errors import OutOfMemory
from ggrpc.op import Op
from ggrpc.types import GGMLType
from tests.support.case import Case, run_case

GIB = 1 << 30


@pytest.fixture
def device() -> Iterator[CpuDevice]:
    device = CpuDevice(threads=2)
    yield device
    device.close()


@pytest.fixture
def alone(device: CpuDevice, monkeypatch: pytest.MonkeyPatch) -> CpuDevice:
    """A device whose machine has free memory that no other process changes."""
    process = psutil.Process()
    available = device._machine.available() + process.memory_info().rss
    monkeypatch.setattr(
        device._machine, "available", lambda: available - process.memory_info().rss
    )
    monkeypatch.setattr("ggrpc.devices.cpu.device.MEASURE_INTERVAL", 0)
    return device


def test_device_has_name_and_description(device: CpuDevice) -> None:
    assert device.name == "cpu"
    assert device.description
    assert device.alignment == 64
    assert device.max_size == device.memory().total


def test_allocated_memory_is_not_free_before_it_is_touched(alone: CpuDevice) -> None:
    free, total = alone.memory()
    assert 0 < free <= total
    size = free // 3
    buffers = [alone.allocate(size) for _ in range(2)]
    assert alone.memory().free < free - 2 * size + free // 10
    with pytest.raises(OutOfMemory):
        alone.allocate(size + free // 10)
    for buffer in buffers:
        buffer.free()
    assert alone.memory().free > free - free // 10


def test_touched_memory_is_not_counted_twice(alone: CpuDevice) -> None:
    size = 256 << 20
    buffer = alone.allocate(size)
    untouched = alone.memory().free
    buffer.fill(0, size, 1)
    assert abs(alone.memory().free - untouched) < size // 2
    buffer.free()


def test_allocation_beyond_memory_is_refused_with_numbers(device: CpuDevice) -> None:
    total = device.memory().total
    with pytest.raises(OutOfMemory, match=rf"cpu: {2 * total / GIB:.2f} GiB requested"):
        device.allocate(2 * total)


def test_allocation_drops_unpacked_weights(
    device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device.weights, "used", device.memory().free - 100)
    cleared: list[bool] = []
    monkeypatch.setattr(device.weights, "clear", lambda: cleared.append(True))
    device.allocate(50).free()
    assert not cleared
    device.allocate(1 << 20).free()
    assert cleared


def test_buffer_can_be_empty(device: CpuDevice) -> None:
    buffer = device.allocate(0)
    with buffer.read(0, 0) as window:
        assert len(window) == 0
    buffer.free()


def test_device_runs_several_sessions_at_once(device: CpuDevice) -> None:
    def session(seed: int) -> None:
        case = Case(seed)
        a = case.rng.standard_normal((300, 512)).astype(np.float32)
        b = case.rng.standard_normal((3, 512)).astype(np.float32)
        leaves = case.leaf(a, GGMLType.F16), case.leaf(b)
        y = case.node(Op.MUL_MAT, leaves, (300, 3))
        for _ in range(5):
            result = run_case(device, case)[str(y.id)]
            right = b @ a.astype(np.float16).astype(np.float32).T
            np.testing.assert_allclose(result[0, 0], right, rtol=1e-3, atol=1e-3)

    with ThreadPoolExecutor(4) as sessions:
        list(sessions.map(session, range(8)))
