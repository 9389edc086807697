"""Indices out of range, and the order of equal elements, which ggml does not define."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.errors import GraphError
from ggrpc.op import Op
from ggrpc.ops.recurrent import SsmScanParams
from ggrpc.ops.reductions import ArgsortParams, SortOrder
from ggrpc.types import GGMLType
from tests.support.case import Case, run_case

I32 = GGMLType.I32


@pytest.mark.parametrize("row", [-1, 9])
def test_row_that_is_not_there_is_refused(opencl: OpenClDevice, row: int) -> None:
    case = Case()
    x, rows = case.leaf((4, 9)), case.leaf(np.array([0, row]), I32)
    case.node(Op.GET_ROWS, [x, rows], (4, 2), name="rows")
    with pytest.raises(GraphError, match=f"'rows': index {row} is out of range"):
        run_case(opencl, case)


def test_row_to_add_that_is_not_there_is_refused(opencl: OpenClDevice) -> None:
    case = Case()
    a, b = case.leaf((4, 2, 3)), case.leaf((4, 5))
    ids = case.leaf(np.array([[0, 1], [2, 5], [3, 4]]), I32)
    case.node(Op.ADD_ID, [a, b, ids], a.ne, name="bias")
    with pytest.raises(GraphError, match="'bias': index 5 is out of range"):
        run_case(opencl, case)


def test_state_that_is_not_there_is_refused(opencl: OpenClDevice) -> None:
    case = Case()
    s, x, dt, a = map(case.leaf, [(16, 2, 3, 4), (2, 3, 1, 1), (3, 1, 1), (1, 3)])
    b, c = case.leaf((16, 1, 1, 1)), case.leaf((16, 1, 1, 1))
    ids = case.leaf(np.array([4]), I32)
    sources, ne = [s, x, dt, a, b, c, ids], (6 + 16 * 6,)
    case.node(Op.SSM_SCAN, sources, ne, params=SsmScanParams(1), name="scan")
    with pytest.raises(GraphError, match="'scan': index 4 is out of range"):
        run_case(opencl, case)


@pytest.mark.parametrize("order", SortOrder, ids=lambda order: order.name)
def test_equal_and_missing_numbers_sort_as_on_the_cpu(
    opencl: OpenClDevice, order: SortOrder
) -> None:
    case = Case()
    some = [3, np.nan, -0.0, 0, np.inf, -1, 3, -np.inf, 0, -np.nan, -1e-40, 1e-40]
    x = case.leaf(np.array([some * 3], np.float32))
    case.node(Op.ARGSORT, [x], x.ne, I32, ArgsortParams(order), name="order")
    expected = run_case(CpuDevice(threads=1), case)["order"]
    assert np.array_equal(run_case(opencl, case)["order"], expected)
