"""Graphs with nodes for the OpenCL device and nodes for the cpu device."""

from __future__ import annotations

import gc

import numpy as np
import pyopencl as cl
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Placed
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.program import MOVE, WAIT, Fault, OpenClProgram
from ggrpc.devices.opencl.runtime import buffer as buffer_module
from ggrpc.devices.opencl.runtime.build import Builder, KernelKey, Owned
from ggrpc.errors import DeviceError, GraphError, OutOfMemory
from ggrpc.op import Op
from ggrpc.ops.copies import RollParams
from ggrpc.ops.norms import NormParams
from ggrpc.ops.reductions import ArgsortParams
from ggrpc.types import GGMLType
from tests.devices.conftest import open_opencl
from tests.support.case import BASE, HANDLE, Case, run_case


def mixed() -> Case:
    """Nodes with an OpenCL kernel and others, each reading what the other wrote."""
    case = Case()
    x, y = case.leaf((96, 7)), case.leaf((96, 1))
    for _ in range(3):
        x = case.node(Op.ADD, [x, y], x.ne)
        x = case.node(Op.ROLL, [x], x.ne, params=RollParams(3, 1, 0, 0))
    case.node(Op.CONT, [x], x.ne)
    return case


@pytest.mark.parametrize("piece", [1000, 7])
@pytest.mark.parametrize(("to", "start"), [(0, 3), (3, 0), (50, 0), (0, 0)])
def test_buffer_copies_overlapping_bytes(
    opencl: OpenClDevice,
    to: int,
    start: int,
    piece: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(buffer_module, "PIECE", piece)
    buffer, size = opencl.allocate(100), 50
    buffer.put(0, memoryview(bytes(range(100))))
    buffer.copy(to, buffer, start, size)
    copied = bytearray(size)
    buffer.get(to, memoryview(copied))
    buffer.free()
    assert copied == bytes(range(start, start + size))


def test_nodes_of_both_kinds_agree_with_the_cpu(opencl: OpenClDevice) -> None:
    case = mixed()
    expected = run_case(CpuDevice(threads=1), case)
    for name, values in run_case(opencl, case).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5)


def test_weights_unpacked_by_the_cpu_follow_what_the_host_writes(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    weights = case.leaf(np.full((3, 96), 2.0, np.float32), GGMLType.Q4_1)
    x = case.leaf(np.ones((1, 96), np.float32))
    y = case.node(Op.OUT_PROD, [case.leaf((5, 1)), case.leaf((3, 1))], (5, 3))
    case.node(Op.MUL_MAT, [weights, x], (3, 1))
    assert y is not None
    buffer = opencl.allocate(case.size)
    program = opencl.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    for factor in (1, 0):
        with buffer.write(0, case.size) as window:
            window[:] = case.image
        if not factor:
            buffer.fill(weights.data, weights.nbytes, 0)
        program.run()
        with buffer.read(0, case.size) as window:
            result = case.results(bytes(window))["6"]
        np.testing.assert_allclose(result, np.full((1, 1, 1, 3), 192.0 * factor))
    buffer.free()


def labels(program: OpenClProgram) -> list[str]:
    return [label for label in program.labels if label not in (WAIT, MOVE)]


@pytest.mark.parametrize("field", ["data", "nb"])
def test_unaligned_numbers_are_left_to_the_cpu(
    opencl: OpenClDevice, field: str
) -> None:
    """The kernel of a GPU would fail, and the memory of all sessions would be lost."""
    case = Case()
    x = case.leaf((16, 3))
    case.node(Op.RMS_NORM, [x], x.ne, params=NormParams(0.0))
    y = case.node(Op.MUL, [case.tensors[-1], case.leaf((16,))], x.ne)
    case.node(Op.NONE, (), (16,))  # scratch memory
    changed = {"data": y.data + 1, "nb": (4, 65, 195, 195)}[field]
    at = case.tensors.index(y)
    case.tensors[at] = y._replace(**{field: changed})
    buffer = opencl.allocate(case.size)
    program = opencl.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    assert labels(program) == ["RMS_NORM rms_norm", "cpu: MUL"]
    buffer.free()


def test_aligned_numbers_are_not(opencl: OpenClDevice) -> None:
    case = Case()
    x = case.leaf((16, 1))
    y = case.node(Op.SQR, [x], x.ne)
    case.tensors[-1] = y._replace(nb=(4, 3, 2, 1))  # of axes of one element
    buffer = opencl.allocate(case.size)
    program = opencl.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    assert labels(program) == ["SQR elementwise"]
    buffer.free()


def bomb() -> Case:
    """Products of a row that is shown many times: what it is rounded to takes more."""
    case = Case()
    weight = case.leaf((32, 1), GGMLType.Q4_0)
    x, rows = case.leaf((32,)), 1 << 18
    shown = case.view(x, (32, rows), (4, 0, 0, 0))
    case.node(Op.MUL_MAT, [weight, shown], (1, rows))
    return case


def test_memory_of_a_program_is_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    case = bomb()
    processor = open_opencl()
    buffer = processor.allocate(case.size)
    monkeypatch.setattr("ggrpc.devices.scratch_limit.SCRATCH_BASE", 1 << 20)
    with pytest.raises(OutOfMemory, match="of scratch memory; with 1"):
        processor.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    buffer.free()
    processor.close()


def test_memory_of_a_program_counts_until_it_is_gone(
    opencl: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ggrpc.devices.cpu.device.MEASURE_INTERVAL", 1e9
    )  # count, do not measure
    gc.collect()
    before = opencl.memory().free
    memory = opencl.program_memory(1 << 30)
    memory.take(64 << 20)
    assert opencl.memory().free <= before - (64 << 20)
    del memory
    gc.collect()
    assert opencl.memory().free == before


def test_driver_failure_names_the_device(opencl: OpenClDevice) -> None:
    def fail() -> None:
        raise cl.RuntimeError("clEnqueueNDRangeKernel failed: DEVICE_NOT_AVAILABLE")

    program = OpenClProgram("opencl:9", opencl.queue, [fail], [], None)
    with pytest.raises(DeviceError, match=r"opencl:9: .*DEVICE_NOT_AVAILABLE"):
        program.run()


def test_index_out_of_range_names_the_node_once(opencl: OpenClDevice) -> None:
    fault = Fault(opencl.queue, opencl.traits.shares_memory)
    left = np.array([2, -7], np.int32)
    case = Case()
    x = case.leaf((4, 1))
    case.node(Op.SQR, [x], x.ne, name="first")
    case.node(Op.SQR, [x], x.ne, name="second")
    nodes = case.graph().nodes
    program = OpenClProgram("opencl:0", opencl.queue, [], nodes, fault)
    cl.enqueue_copy(opencl.queue, fault.buffer, left)
    with pytest.raises(GraphError, match="'second': index -7 is out of range"):
        program.run()
    program.run()


def test_failure_to_build_names_the_device(opencl: OpenClDevice) -> None:
    with pytest.raises(DeviceError, match=r"^opencl:0: its driver cannot build"):
        opencl.builder.program("arithmetic", float="no type")


def test_numbers_at_odd_addresses_are_left_to_the_cpu(opencl: OpenClDevice) -> None:
    case = Case()
    x = case.view(case.leaf(np.arange(9, dtype=np.int8), GGMLType.I8), (8,), offset=1)
    x = x._replace(type=GGMLType.F16, ne=(4, 1, 1, 1), nb=(2, 8, 8, 8))
    case.tensors[-1] = x
    case.node(Op.CPY, [x, x], x.ne, GGMLType.F16, name="y")
    values = np.arange(1, 9, dtype=np.int8).view(np.float16)
    assert np.array_equal(run_case(opencl, case)["y"].ravel(), values)


def test_few_kernels_are_kept_and_got_while_others_are_built(
    opencl: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggrpc.devices.opencl.runtime.build.MAX_PROGRAMS", 2)
    builder = Builder(opencl.queue.context)
    spare = builder.kernel(KernelKey("proof", (("NUMBER", 0),), "twice"))
    builder.give_back([spare])
    built = [builder.program("proof", NUMBER=n) for n in range(3)]
    with builder._lock:
        assert builder.program("proof", NUMBER=1) is built[1]
        assert builder.program("proof", NUMBER=2) is built[2]
    builder.give_back([spare])
    assert (
        builder.kernel(KernelKey("proof", (("NUMBER", 0),), "twice")).kernel
        is not spare.kernel
    )
    assert builder.program("proof", NUMBER=0) is not built[0]
    assert built[0].kernel_names == "twice"


def test_more_than_the_driver_gives_at_once_is_refused(opencl: OpenClDevice) -> None:
    with pytest.raises(OutOfMemory, match="the driver allows"):
        opencl.allocate(opencl.max_size + 1)


def test_memory_comes_back(opencl: OpenClDevice) -> None:
    before = opencl.memory().free
    buffer = opencl.allocate(64 << 20)
    assert opencl.memory().free <= before - (60 << 20)
    buffer.free()
    assert opencl.memory().free > before - (32 << 20)


def test_bytes_are_copied_between_buffers_and_within_one(opencl: OpenClDevice) -> None:
    first, second = opencl.allocate(64), opencl.allocate(64)
    first.put(0, memoryview(bytes(range(64))))
    second.copy(8, first, 16, 4)
    second.copy(9, second, 8, 4)
    second.copy(0, first, 64, 0)
    with second.read(0, 16) as view:
        assert bytes(view) == bytes([*[0] * 8, 16, 16, 17, 18, 19, 0, 0, 0])
    first.free()
    second.free()


def test_device_that_is_lost_costs_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise cl.RuntimeError("clEnqueueMapBuffer failed: DEVICE_NOT_AVAILABLE")

    device = open_opencl(shares_memory=False)
    buffer = device.allocate(64)
    monkeypatch.setattr(cl, "enqueue_map_buffer", fail)
    monkeypatch.setattr(cl, "enqueue_fill_buffer", fail)
    named = pytest.raises(DeviceError, match=r"^opencl:0: .*DEVICE_NOT_AVAILABLE")
    with named, buffer.write(0, 64):
        pass
    with pytest.raises(OutOfMemory, match=r"^opencl:0: .*DEVICE_NOT_AVAILABLE"):
        device.allocate(64)
    monkeypatch.undo()
    buffer.free()
    device.close()


def test_kernels_of_a_dropped_program_serve_the_next_one(
    opencl: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[cl.Kernel] = []
    kernel = Builder.kernel

    def spy(self: Builder, key: KernelKey) -> Owned:
        taken.append(kernel(self, key).kernel)
        return Owned(taken[-1], key)

    monkeypatch.setattr(Builder, "kernel", spy)
    for factor in (2, 3):
        case = Case()
        x = case.leaf(np.full((1, 32), factor, np.float32))
        case.node(Op.SQR, [x], x.ne, name="y")
        assert (run_case(opencl, case)["y"] == factor**2).all()
    assert len(taken) == 2
    assert taken[0] is taken[1]


def test_program_without_indices_has_no_fault_buffer(opencl: OpenClDevice) -> None:
    case = Case()
    x = case.leaf((4, 1))
    case.node(Op.SQR, [x], x.ne, name="y")
    buffer = opencl.allocate(case.size)
    program = opencl.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    assert program._fault is None
    program.run()
    buffer.free()


def test_kernel_is_refused_to_a_node_in_place_after_an_equal_one_that_is_not(
    opencl: OpenClDevice,
) -> None:
    case = Case()
    params = ArgsortParams(0)
    for name in ("apart", "in_place"):
        x = case.leaf(np.arange(32, 0, -1, dtype=np.float32).reshape(1, 32))
        over = x if name == "in_place" else None
        case.node(Op.ARGSORT, [x], x.ne, GGMLType.I32, params, over, name)
    results = run_case(opencl, case)
    for name in ("apart", "in_place"):
        assert list(results[name].ravel()) == list(range(31, -1, -1))
    buffer = opencl.allocate(case.size)
    program = opencl.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    assert [label for label in program.labels if label.startswith("cpu")] == [
        "cpu: ARGSORT"
    ]
    buffer.free()


def test_launches_of_a_program_share_kernel_objects(
    opencl: OpenClDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[KernelKey] = []
    kernel = Builder.kernel

    def spy(self: Builder, key: KernelKey) -> Owned:
        taken.append(key)
        return kernel(self, key)

    monkeypatch.setattr(Builder, "kernel", spy)
    case = Case()
    x = case.leaf(np.full((1, 32), 2, np.float32))
    y = case.node(Op.SQR, [x], x.ne, name="y")
    case.node(Op.SQR, [y], x.ne, name="z")
    results = run_case(opencl, case)
    assert (results["y"] == 4).all()
    assert (results["z"] == 16).all()
    assert len(taken) == 1
