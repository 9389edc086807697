"""Tensors of many GiB; only the touched pages take memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.bounds import Region
from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Placed
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case, values

STRIDE = (9 << 29) + 64  # 4.5 GiB, and not a multiple of the page size
LAST = (1 << 31) - 1


@pytest.fixture(scope="module")
def device() -> Iterator[CpuDevice]:
    device = CpuDevice(threads=2)
    yield device
    device.close()


def run_sparsely(device: CpuDevice, case: Case) -> Array:
    """Run a case in a buffer whose untouched pages take no memory."""
    buffer = device.allocate(case.size)
    graph = case.graph()
    graph.validate({HANDLE: Region(BASE, case.size)})
    program = device.compile(graph, {HANDLE: Placed(BASE, buffer)})
    with buffer.write(0, case.size) as memory:
        case.fill(memory)
    program.run()
    with buffer.read(0, case.size) as memory:
        result = values(case.tensors[-1], memory)
    buffer.free()
    return result


def far_apart(case: Case) -> Case:
    """The case with a stride of STRIDE bytes between rows."""

    def moved(tensor: Tensor) -> Tensor:
        nb1, nb2 = STRIDE, STRIDE * tensor.ne[1]
        return tensor._replace(nb=(tensor.nb[0], nb1, nb2, nb2 * tensor.ne[2]))

    return case.rearranged([moved(t) for t in case.tensors], case.size + 2 * STRIDE)


@pytest.mark.parametrize("type", [GGMLType.F32, GGMLType.F16, GGMLType.Q8_0])
def test_weights_with_rows_over_4_gib_apart_multiply(
    device: CpuDevice, type: GGMLType
) -> None:
    case = Case(seed=1)
    weights, x = case.leaf((64, 3), type), case.leaf((64, 2))
    case.node(Op.MUL_MAT, [weights, x], (3, 2))
    near, far = run_sparsely(device, case), run_sparsely(device, far_apart(case))
    np.testing.assert_allclose(far, near, rtol=1e-6)


@pytest.mark.parametrize("op", [Op.ADD, Op.MUL])
def test_rows_over_4_gib_apart_add_and_multiply(device: CpuDevice, op: Op) -> None:
    case = Case(seed=2)
    case.node(op, [case.leaf((5, 3)), case.leaf((5, 3))], (5, 3))
    near, far = run_sparsely(device, case), run_sparsely(device, far_apart(case))
    np.testing.assert_array_equal(far, near)


def test_last_of_two_billion_rows_is_set_and_got(
    device: CpuDevice,
) -> None:
    case = Case()
    table = case.node(Op.NONE, [], (1, LAST + 1), GGMLType.F16)
    new = case.leaf(np.array([[1.5], [-2.0]], np.float32))
    at = case.leaf(np.array([LAST, 3]), GGMLType.I64)
    case.node(Op.SET_ROWS, [new, at, table], table.ne, table.type, inplace_over=table)
    of = case.leaf(np.array([3, LAST]), GGMLType.I32)
    case.node(Op.GET_ROWS, [table, of], (1, 2))
    assert run_sparsely(device, case).ravel().tolist() == [-2.0, 1.5]
