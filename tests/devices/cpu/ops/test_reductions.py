"""The reductions on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.reductions import SortOrder
from tests.support.case import Case, run_case
from tests.support.cases.reductions import cases
from tests.support.reference import assert_agree, by_definition


def define(node: Node, a: Array, b: Array | None = None) -> Array:
    op = node.tensor.op
    if op in ROWS:
        return ROWS[op](a)
    if op == Op.SUM:
        return a.sum().reshape(1, 1, 1, 1)
    if op == Op.COUNT_EQUAL:
        return np.array((a == b).sum()).reshape(1, 1, 1, 1)
    if op == Op.REPEAT_BACK:
        return repeat_back(a, node.tensor.ne[::-1])
    if op == Op.ARGMAX:
        last = [max(np.flatnonzero(row == row.max())) for row in a[0, 0]]
        return np.array(last).reshape(1, 1, 1, -1)
    if op == Op.TOP_K:
        largest = np.argsort(-a, axis=-1)[..., : node.tensor.ne[0]]
        largest[..., :2] = largest[..., :2][..., ::-1].copy()
        return largest
    return np.argsort(a if node.params.order == SortOrder.ASC else -a, axis=-1)


ROWS = {
    Op.SUM_ROWS: lambda a: a.sum(axis=-1, keepdims=True),
    Op.MEAN: lambda a: a.mean(axis=-1, keepdims=True),
    Op.CUMSUM: lambda a: a.cumsum(axis=-1),
}


def repeat_back(a: Array, shape: tuple[int, ...]) -> Array:
    y = np.zeros(shape)
    places = np.ix_(*(np.arange(n) % m for n, m in zip(a.shape, shape, strict=True)))
    np.add.at(y, places, a)
    return y


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_reduction_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_sum_of_empty_rows_is_zero(cpu: CpuDevice) -> None:
    case = Case()
    case.node(Op.SUM_ROWS, [case.leaf((0, 3))], (1, 3), name="sums")
    assert not run_case(cpu, case)["sums"].any()


def test_sum_ignores_nb0_as_ggml_does(cpu: CpuDevice) -> None:
    case = Case()
    x = case.permute(case.leaf(np.arange(12.0).reshape(4, 3)), 1, 0, 2, 3)
    case.node(Op.SUM, [x], (1,), name="sum")  # of 0 to 3, 1 to 4 and 2 to 5
    assert run_case(cpu, case)["sum"].item() == 6 + 10 + 14
