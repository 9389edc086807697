"""PAD, PAD_REFLECT_1D on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.padding import PadParams
from tests.support.case import Case, count_steps, run_case
from tests.support.cases.padding import cases, pad
from tests.support.reference import assert_agree, by_definition


def define(node: Node, x: Array) -> Array:
    p = node.params
    if node.tensor.op == Op.PAD_REFLECT_1D:
        return np.pad(x, [(0, 0)] * 3 + [(p.p0, p.p1)], "reflect")
    widths = list(zip(p.lp, p.rp, strict=True))[::-1]
    if p.circular:
        return np.pad(x, widths, "wrap")
    y = np.pad(x, [(max(a, 0), max(b, 0)) for a, b in widths])
    return y[tuple(slice(max(-a, 0), min(b, 0) or None) for a, b in widths)]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_padding_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_pad_without_parameters_appends_zeros(cpu: CpuDevice) -> None:
    """PAD as clients before 2025-09 send it."""
    case = Case()
    x = case.leaf(np.ones((1, 1, 2, 3)))
    case.node(Op.PAD, [x], (4, 3), params=PadParams(*[0] * 9), name="y")
    (y,) = run_case(cpu, case).values()
    assert y[0, 0].tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_plain_pad_is_one_step(cpu: CpuDevice) -> None:
    assert count_steps(cpu, pad((64, 2), (1, 1, 0, 0, 0, 0, 0, 0), 0)) == 1
