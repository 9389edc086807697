"""The compiler and the programs of the cpu device."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.compiler import MIN_PARALLEL, Compiler
from ggrpc.devices.cpu.kernel_table import KERNELS, Kernel, KernelEntry, can_write
from ggrpc.devices.cpu.program import CpuProgram
from ggrpc.devices.device import Placed
from ggrpc.errors import GraphError, OutOfMemory, UnsupportedOp
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case, run_case

Register = Callable[[Kernel], None]


@pytest.fixture(params=[1, 3])
def device(request: pytest.FixtureRequest) -> Iterator[CpuDevice]:
    device = CpuDevice(threads=request.param)
    yield device
    device.close()


@pytest.fixture
def square(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Replaces the kernel of SQR for one test."""

    def register(kernel: Kernel) -> None:
        monkeypatch.setitem(KERNELS, Op.SQR, KernelEntry(kernel, can_write))

    return register


def compiled(device: CpuDevice, case: Case) -> CpuProgram:
    buffer = device.allocate(case.size)
    return device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})


def chain(case: Case, length: int, ne: tuple[int, ...] = (4, 3)) -> None:
    tensor = case.leaf(ne)
    for _ in range(length):
        tensor = case.node(Op.SQR, [tensor], ne)


def one_step(node: Node, c: Compiler) -> None:
    c.step(np.square, c.f32(node.source(0)), c.result(node.tensor))


def test_program_of_plain_nodes_is_one_call_each(
    device: CpuDevice, square: Register
) -> None:
    square(one_step)
    case = Case()
    chain(case, 5)
    assert len(compiled(device, case).steps) == 5


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.F16, GGMLType.BF16])
@pytest.mark.parametrize("rows", [3, 2 * MIN_PARALLEL // 32])
def test_program_converts_sources_and_results(
    device: CpuDevice, square: Register, type: GGMLType, rows: int
) -> None:
    square(one_step)
    case = Case()
    numbers = np.arange(rows * 32, dtype=np.float32).reshape(rows, 32) % 13
    y = case.node(Op.SQR, [case.leaf(numbers, type)], (32, rows), type)
    result = run_case(device, case)[str(y.id)]
    np.testing.assert_array_equal(result[0, 0], np.square(numbers))


def test_program_skips_views_and_empty_tensors(
    device: CpuDevice, square: Register
) -> None:
    square(one_step)
    case = Case()
    case.view(case.leaf((4, 3)), (2, 3), (4, 16))
    case.node(Op.SQR, [case.leaf((4, 0))], (4, 0))
    assert compiled(device, case).steps == ()


def test_node_without_kernel_is_refused_by_name(
    device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(KERNELS, Op.SQR, raising=False)
    case = Case()
    case.node(Op.SQR, [case.leaf((4, 3))], (4, 3), name="ffn-7")
    with pytest.raises(UnsupportedOp, match=r"SQR 'ffn-7': .* SQR of \(F32\) to F32"):
        compiled(device, case)
    assert not device.supports(case.graph().nodes[0])


def test_result_type_without_packing_is_refused(
    device: CpuDevice, square: Register
) -> None:
    square(one_step)
    leaf = Case().leaf((256, 1))
    tensor = Case().node(Op.SQR, [leaf], (256, 1), GGMLType.IQ2_XS)
    assert not device.supports(Node(tensor, (leaf,), ()))


def test_node_that_its_kernel_does_not_accept_is_refused(
    device: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = KernelEntry(one_step, lambda node: node.tensor.ne[0] == 4)
    monkeypatch.setitem(KERNELS, Op.SQR, entry)
    case = Case()
    chain(case, 1, (4, 3))
    chain(case, 1, (5, 3))
    accepted, refused = case.graph().nodes
    assert device.supports(accepted)
    assert not device.supports(refused)


def test_scratch_of_one_node_does_not_overlap(
    device: CpuDevice, square: Register
) -> None:
    taken: list[Array] = []

    def kernel(node: Node, c: Compiler) -> None:
        taken.extend(c.scratch((5, 7), dtype) for dtype in (np.float32, np.int64))
        taken.append(c.scratch((3 << 20,), np.uint8))
        taken.append(c.scratch((9,)))

    square(kernel)
    case = Case()
    chain(case, 1)
    compiled(device, case)
    for i, array in enumerate(taken):
        array.fill(i)
        assert array.ctypes.data % device.alignment == 0
    for i, array in enumerate(taken):
        assert (array == i).all()


def test_scratch_is_reused_by_the_next_node(
    device: CpuDevice, square: Register
) -> None:
    taken: list[int] = []
    square(lambda node, c: taken.append(c.scratch((1000,)).ctypes.data))
    case = Case()
    chain(case, 10)
    compiled(device, case)
    assert len(set(taken)) == 1


@pytest.mark.parametrize("shape", [(7, 5), (MIN_PARALLEL + 1,), (3, MIN_PARALLEL)])
def test_elementwise_takes_arrays_and_scalars(
    device: CpuDevice, square: Register, shape: tuple[int, ...]
) -> None:
    def kernel(node: Node, c: Compiler) -> None:
        x, y = c.view(node.source(0)), c.view(node.tensor)
        c.elementwise(np.multiply, (x, np.float32(2)), y)
        c.elementwise(np.add, (y, x[..., :1, :]), y)

    square(kernel)
    case = Case()
    numbers = case.rng.standard_normal(shape).astype(np.float32)
    y = case.node(Op.SQR, [case.leaf(numbers)], shape[::-1])
    result = run_case(device, case)[str(y.id)]
    right = numbers * 2 + (numbers[:1] if numbers.ndim > 1 else numbers)
    np.testing.assert_allclose(result.reshape(shape), right, rtol=1e-6)


@pytest.mark.parametrize("rows", [5, 3 * MIN_PARALLEL // 64])
def test_each_row_is_computed_once(
    device: CpuDevice, square: Register, rows: int
) -> None:
    def add_sum(x: Array, y: Array, work: Array) -> None:
        np.multiply(x, 2, work[..., :64])
        np.add(x, work[..., :64].sum(axis=-1, keepdims=True), y)

    def kernel(node: Node, c: Compiler) -> None:
        c.rows(add_sum, (c.view(node.source(0)), c.view(node.tensor)), temps=(70,))

    square(kernel)
    case = Case()
    numbers = np.arange(rows * 64, dtype=np.float32).reshape(rows, 64) % 7
    y = case.node(Op.SQR, [case.leaf(numbers)], (64, rows))
    result = run_case(device, case)[str(y.id)]
    right = numbers + 2 * numbers.sum(axis=-1, keepdims=True)
    np.testing.assert_array_equal(result[0, 0], right)


def test_shared_work_is_done_again_after_its_source_changes(
    device: CpuDevice, square: Register
) -> None:
    case = Case()
    positions = case.leaf((4,))
    made: list[Array] = []

    def kernel(node: Node, c: Compiler) -> None:
        def make(c: Compiler) -> Array:
            made.append(np.empty(4, np.float32))
            c.step(np.copyto, made[-1], c.view(node.source(0)).ravel())
            return made[-1]

        table = c.shared("table", [node.source(0)], make)
        c.step(np.add, table, 1, c.view(node.tensor))

    square(kernel)
    for over in None, None, positions, None, None:
        case.node(Op.SQR, [positions], (4,), inplace_over=over)
    results = list(run_case(device, case).values())
    assert len(made) == 2
    np.testing.assert_array_equal(results[4], results[0] + 1)


def test_program_runs_without_numpy_warnings(
    device: CpuDevice, square: Register
) -> None:
    def divide(x: Array, y: Array) -> None:
        np.divide(x, 0, y)

    def kernel(node: Node, c: Compiler) -> None:
        c.convert(divide, c.view(node.source(0)), c.view(node.tensor))

    square(kernel)
    case = Case()
    chain(case, 1, (64, MIN_PARALLEL // 32))
    assert np.isinf(next(iter(run_case(device, case).values()))).all()


@pytest.mark.parametrize(
    ("raised", "seen"),
    [(MemoryError(), OutOfMemory), (GraphError("row 9"), GraphError)],
)
def test_errors_of_a_step_reach_the_caller(
    device: CpuDevice, square: Register, raised: Exception, seen: type[Exception]
) -> None:
    def fail() -> None:
        raise raised

    square(lambda node, c: c.step(fail))
    case = Case()
    chain(case, 1)
    with pytest.raises(seen):
        compiled(device, case).run()
