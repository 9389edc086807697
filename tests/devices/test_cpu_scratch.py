from __future__ import annotations

import gc

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.memory import mapped
from ggrpc.devices.cpu.program import MOST_PARTS, Compiler
from ggrpc.devices.cpu.scratch import FREELY, TIMES, Scratch
from ggrpc.errors import DeviceError, OutOfMemory

F32 = np.dtype(np.float32)


def test_scratch_is_used_again_after_a_reset() -> None:
    scratch = Scratch(mapped, 0)
    first = scratch.take((8,), F32)
    other = scratch.take((8,), F32)
    assert not np.may_share_memory(first, other)
    scratch.reset()
    assert np.may_share_memory(first, scratch.take((8,), F32))


def test_scratch_is_in_proportion_to_the_buffers() -> None:
    buffers = 1 << 30
    most = FREELY + TIMES * buffers
    with pytest.raises(OutOfMemory, match=r"to work in, for buffers of 1\.0 GiB"):
        Scratch(mapped, buffers).take((most // 4 + 16,), F32)
    scratch = Scratch(mapped, 0)
    scratch.take((FREELY // 8,), F32)
    with pytest.raises(OutOfMemory, match="for buffers of 0 B"):
        scratch.take((FREELY // 4,), F32)


def test_scratch_of_a_program_is_memory_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    free, size = device.memory().free, 64 << 20
    monkeypatch.setattr("ggrpc.devices.cpu.device.FRESH", 1e9)  # count, do not measure
    compiler = device.compiler({})
    array = compiler.scratch((size // 4,))
    assert device.memory().free == free - size
    del array, compiler
    gc.collect()
    assert device.memory().free == free


def test_scratch_beyond_the_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    monkeypatch.setattr(device, "_free", lambda: 1 << 20)
    with pytest.raises(OutOfMemory, match="GiB asked for"):
        device.compiler({}).scratch((1 << 20,))


def test_work_is_cut_into_few_parts() -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    compiler: Compiler = device.compiler({})
    compiler.demand_few(MOST_PARTS)
    with pytest.raises(DeviceError, match="the most: its shape is one that no model"):
        compiler.demand_few(MOST_PARTS + 1)
