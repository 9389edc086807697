from __future__ import annotations

import gc
from mmap import mmap
from typing import Any

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.compiler import MAX_PARTS, MIN_COUNTED_COPY, Compiler
from ggrpc.devices.cpu.mapped_memory import mapped
from ggrpc.devices.cpu.ops.reductions import SORT_BYTES
from ggrpc.devices.cpu.scratch import MIN_CHUNK, Scratch
from ggrpc.devices.device import Placed
from ggrpc.devices.scratch_limit import SCRATCH_BASE, SCRATCH_FACTOR
from ggrpc.errors import DeviceError, OutOfMemory
from ggrpc.op import Op
from ggrpc.ops.generators import ArangeParams
from ggrpc.ops.padding import PadParams
from ggrpc.ops.upscaling import ScaleMode, UpscaleParams
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case

F32 = np.dtype(np.float32)


def test_scratch_is_reused_after_a_reset() -> None:
    scratch = Scratch(mapped, 0)
    first = scratch.take((8,), F32)
    other = scratch.take((8,), F32)
    assert not np.may_share_memory(first, other)
    scratch.reset()
    assert np.may_share_memory(first, scratch.take((8,), F32))


def test_scratch_limit_depends_on_the_buffers() -> None:
    buffers = 1 << 30
    most = SCRATCH_BASE + SCRATCH_FACTOR * buffers
    with pytest.raises(OutOfMemory, match=r"with 1\.0 GiB of buffers"):
        Scratch(mapped, buffers).take((most // 4 + 16,), F32)
    scratch = Scratch(mapped, 0)
    scratch.take((SCRATCH_BASE // 8,), F32)
    with pytest.raises(OutOfMemory, match="with 0 B of buffers"):
        scratch.take((SCRATCH_BASE // 4,), F32)


def test_reserved_memory_is_counted_but_not_used() -> None:
    sizes: list[int] = []

    def take(size: int) -> mmap:
        sizes.append(size)
        return mapped(size)

    scratch = Scratch(take, 0)
    scratch.reserve(1000)
    scratch.reserve(500)
    scratch.reset()
    scratch.reserve(1500)  # a node that fits into the limit
    assert sizes == [1000, 500]
    scratch.take((8,), F32)
    assert len(sizes) == 3
    with pytest.raises(OutOfMemory, match="with 0 B of buffers"):
        scratch.reserve(SCRATCH_BASE)


@pytest.mark.parametrize(
    ("op", "shift", "bytes_each"),
    [(Op.SQR, 4, 4), (Op.SQR, 0, 0), (Op.ARGSORT, None, SORT_BYTES)],
)
def test_memory_that_numpy_allocates_is_counted(
    op: Op, shift: int | None, bytes_each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that numpy allocates to copy overwritten sources, and to sort."""
    device, n = CpuDevice(threads=1, weight_cache=0), MIN_COUNTED_COPY + 64
    buffer = device.allocate(8 * n)
    monkeypatch.setattr(
        "ggrpc.devices.cpu.device.MEASURE_INTERVAL", 1e9
    )  # count, do not measure
    free = device.memory().free
    case = Case()
    x = case.node(Op.NONE, (), (n,))
    type = GGMLType.I32 if op is Op.ARGSORT else GGMLType.F32
    y = case.node(op, [x], (n,), type)
    if shift is not None:
        case.tensors[-1] = y._replace(data=x.data + shift)
    graph = case.graph()
    program = device.compile(graph, {HANDLE: Placed(BASE, buffer)})
    assert 0 <= free - device.memory().free - n * bytes_each <= MIN_CHUNK
    program.run()
    del program
    gc.collect()
    assert device.memory().free == free


def many(
    op: Op, sources: tuple[int, ...], result: tuple[int, ...], params: Any
) -> Case:
    """Nodes with the same destination, each of which retains memory."""
    case = Case()
    x = [case.leaf(np.zeros((n,), np.float32)) for n in sources]
    y = case.node(Op.NONE, (), result)
    for at in range(64):
        case.node(op, x, result, params=params(at), inplace_over=y)
    return case


@pytest.mark.parametrize(
    "case",
    [
        many(Op.ARANGE, (), (1 << 16,), lambda at: ArangeParams(0, 1 << 16, 1)),
        many(Op.UPSCALE, (1,), (1 << 12,), lambda at: UpscaleParams(ScaleMode.BICUBIC)),
        many(
            Op.PAD,
            (1,),
            (1 << 14,),
            lambda at: PadParams(0, (1 << 14) - 1, *[0] * 6, circular=1),
        ),
    ],
    ids=["ARANGE", "UPSCALE", "PAD"],
)
def test_retained_memory_of_all_nodes_is_counted(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small amounts add up, even if the results are larger."""
    monkeypatch.setattr("ggrpc.devices.scratch_limit.SCRATCH_BASE", 1 << 22)
    device = CpuDevice(threads=1, weight_cache=0)
    buffer = device.allocate(case.size)
    with pytest.raises(OutOfMemory, match="of scratch memory"):
        device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})


def test_scratch_of_a_program_is_memory_of_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    free, size = device.memory().free, 64 << 20
    monkeypatch.setattr(
        "ggrpc.devices.cpu.device.MEASURE_INTERVAL", 1e9
    )  # count, do not measure
    compiler = device.compiler({})
    array = compiler.scratch((size // 4,))
    assert device.memory().free == free - size
    del array, compiler
    gc.collect()
    assert device.memory().free == free


def test_scratch_beyond_the_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    monkeypatch.setattr(device, "_free", lambda: 1 << 20)
    with pytest.raises(OutOfMemory, match="GiB requested"):
        device.compiler({}).scratch((1 << 20,))


def test_number_of_parts_is_limited() -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    compiler: Compiler = device.compiler({})
    compiler.check_parts(MAX_PARTS)
    with pytest.raises(DeviceError, match=f"the limit is {MAX_PARTS}"):
        compiler.check_parts(MAX_PARTS + 1)
