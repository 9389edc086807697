"""UNARY and GLU on the cpu device, by definition."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.ops.activations import gelu_erf
from ggrpc.formats.codecs import Array
from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops import Node
from ggrpc.ops.activations import GluParams, UnaryParams
from tests.support.case import Case, run_case
from tests.support.cases.activations import cases
from tests.support.reference import assert_agree, by_definition


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def exact_gelu(x: Array) -> Array:
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def hard_sigmoid(x: Array) -> Array:
    return np.clip((x + 3) / 6, 0, 1)


FUNCTIONS: dict[UnaryOp, Callable[[Array], Array]] = {
    UnaryOp.ABS: np.abs,
    UnaryOp.SGN: np.sign,
    UnaryOp.NEG: np.negative,
    UnaryOp.STEP: lambda x: (x > 0) * 1.0,
    UnaryOp.TANH: np.tanh,
    UnaryOp.ELU: lambda x: np.where(x > 0, x, np.expm1(x)),
    UnaryOp.RELU: lambda x: np.maximum(x, 0),
    UnaryOp.SIGMOID: sigmoid,
    UnaryOp.GELU: gelu,
    UnaryOp.GELU_QUICK: lambda x: x * sigmoid(1.702 * x),
    UnaryOp.SILU: lambda x: x * sigmoid(x),
    UnaryOp.HARDSWISH: lambda x: x * hard_sigmoid(x),
    UnaryOp.HARDSIGMOID: hard_sigmoid,
    UnaryOp.EXP: np.exp,
    UnaryOp.EXPM1: np.expm1,
    UnaryOp.SOFTPLUS: lambda x: np.log1p(np.exp(x)),
    UnaryOp.GELU_ERF: exact_gelu,
    UnaryOp.FLOOR: np.floor,
    UnaryOp.CEIL: np.ceil,
    UnaryOp.ROUND: lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
    UnaryOp.TRUNC: np.trunc,
}
GATES: dict[GluOp, UnaryOp] = {
    GluOp.REGLU: UnaryOp.RELU,
    GluOp.GEGLU: UnaryOp.GELU,
    GluOp.SWIGLU: UnaryOp.SILU,
    GluOp.GEGLU_ERF: UnaryOp.GELU_ERF,
    GluOp.GEGLU_QUICK: UnaryOp.GELU_QUICK,
}


def define(node: Node, a: Array, b: Array | None = None) -> Array:
    if node.tensor.op == Op.GLU:
        return define_glu(node.params, a, b)
    if node.params.op == UnaryOp.XIELU:
        return define_xielu(node.params, a)
    return FUNCTIONS[UnaryOp(node.params.op)](a)


def define_xielu(p: UnaryParams, x: Array) -> Array:
    positive = p.alpha_p * x * x
    negative = (np.expm1(np.minimum(x, p.eps)) - x) * p.alpha_n
    return np.where(x > 0, positive, negative) + p.beta * x


def define_glu(p: GluParams, a: Array, b: Array | None) -> Array:
    gate, up = np.split(a, 2, axis=-1) if b is None else (a, b)
    if p.swapped and b is None:
        gate, up = up, gate
    if p.op in GATES:
        return FUNCTIONS[GATES[GluOp(p.op)]](gate) * up
    gate, up = np.minimum(gate, p.limit), np.clip(up, -p.limit, p.limit)
    if p.op == GluOp.SWIGLU_OAI:
        return gate * sigmoid(p.alpha * gate) * (up + 1)
    return gate * sigmoid(gate) * up


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_activation_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_gelu_erf_is_exact_to_float32() -> None:
    x = np.linspace(-12, 12, 100_001, dtype=np.float32)
    y = np.empty_like(x)
    gelu_erf(x, y, *(np.empty_like(x) for _ in range(3)))
    assert np.abs(y - exact_gelu(x.astype(np.float64))).max() < 1e-6


@pytest.mark.parametrize("op", [op for op in UnaryOp if op != UnaryOp.XIELU])
def test_activation_of_huge_values_is_not_nan(cpu: CpuDevice, op: UnaryOp) -> None:
    case = Case()
    x = case.leaf(np.array([-1e30, 1e30], np.float32))
    case.node(Op.UNARY, [x], x.ne, params=UnaryParams(op, 0, 0, 0, 0), name="y")
    assert not np.isnan(run_case(cpu, case)["y"]).any()
