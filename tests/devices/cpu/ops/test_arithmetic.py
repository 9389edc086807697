"""The arithmetic ops on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.arithmetic import ScaleParams
from tests.support.case import Case, count_steps, run_case
from tests.support.cases.arithmetic import cases
from tests.support.reference import assert_agree, by_definition

BINARY = {
    Op.ADD: np.add,
    Op.ADD1: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.divide,
}

UNARY = {
    Op.SQR: np.square,
    Op.SQRT: np.sqrt,
    Op.LOG: np.log,
    Op.SIN: np.sin,
    Op.COS: np.cos,
}


def define(node: Node, a: Array, b: Array | None = None) -> Array:
    op, p = node.tensor.op, node.params
    if b is not None:
        times = [n // m for n, m in zip(a.shape, b.shape, strict=True)]
        return BINARY[op](a, np.tile(b, times))
    if op == Op.SCALE:
        return a * p.scale + p.bias
    if op == Op.CLAMP:
        return np.clip(a, p.min, p.max)
    if op == Op.LEAKY_RELU:
        return np.where(a > 0, a, a * p.negative_slope)
    return UNARY[op](a)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_arithmetic_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_binary_op_of_empty_tensors_computes_nothing(cpu: CpuDevice) -> None:
    case = Case()
    a, b = case.leaf((8, 0)), case.leaf((8, 1))
    case.node(Op.ADD, [a, b], (8, 0), name="sum")
    assert run_case(cpu, case)["sum"].size == 0


def test_plain_add_is_one_step(cpu: CpuDevice) -> None:
    case = Case()
    a, b = case.leaf((64, 2)), case.leaf((64,))
    case.node(Op.ADD, [a, b], (64, 2))
    assert count_steps(cpu, case) == 1


def test_scale_without_bias_is_one_step(cpu: CpuDevice) -> None:
    case = Case()
    case.node(Op.SCALE, [case.leaf((64,))], (64,), params=ScaleParams(2, 0))
    assert count_steps(cpu, case) == 1
