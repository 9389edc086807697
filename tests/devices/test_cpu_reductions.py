"""SUM_ROWS, ARGMAX, ARGSORT on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.arrays import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.reductions import SortOrder
from tests.support.case import Case, run_case
from tests.support.cases.reductions import cases
from tests.support.reference import assert_agree, by_definition


def define(node: Node, a: Array) -> Array:
    if node.tensor.op == Op.SUM_ROWS:
        return a.sum(axis=-1, keepdims=True)
    if node.tensor.op == Op.ARGMAX:
        last = [max(np.flatnonzero(row == row.max())) for row in a[0, 0]]
        return np.array(last).reshape(1, 1, 1, -1)
    return np.argsort(a if node.params.order == SortOrder.ASC else -a, axis=-1)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_reduction_is_as_defined(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_sum_of_empty_rows_is_zero(cpu: CpuDevice) -> None:
    case = Case()
    case.node(Op.SUM_ROWS, [case.leaf((0, 3))], (1, 3), name="sums")
    assert not run_case(cpu, case)["sums"].any()
