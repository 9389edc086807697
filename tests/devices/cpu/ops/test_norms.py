"""NORM, RMS_NORM, L2_NORM, GROUP_NORM on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.norms import NormParams
from tests.support.case import Case, count_steps, run_case
from tests.support.cases.norms import cases
from tests.support.reference import assert_agree, by_definition


def define(node: Node, a: Array, b: Array | None = None) -> Array:
    op = node.tensor.op
    if op == Op.SUB:
        return a - b
    eps = node.params.eps
    if op == Op.GROUP_NORM:
        return group_norm(node, a)
    if op == Op.L2_NORM:
        return a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), eps)
    if op == Op.NORM:
        a = a - a.mean(axis=-1, keepdims=True)
    return a / np.sqrt((a * a).mean(axis=-1, keepdims=True) + eps)


def group_norm(node: Node, a: Array) -> Array:
    size, groups = node.params.channels(a.shape[1]), []
    for start in range(0, a.shape[1], size):
        group = a[:, start : start + size]
        group = group - group.mean(axis=(1, 2, 3), keepdims=True)
        variance = (group * group).mean(axis=(1, 2, 3), keepdims=True)
        groups.append(group / np.sqrt(variance + node.params.eps))
    return np.concatenate(groups, axis=1)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_norm_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_rms_norm_of_one_row_is_one_step(cpu: CpuDevice) -> None:
    case = Case()
    case.node(Op.RMS_NORM, [case.leaf((2048,))], (2048,), params=NormParams(1e-5))
    assert count_steps(cpu, case) == 1


@pytest.mark.parametrize("rows", [1, 2])
def test_rms_norm_of_zeros_without_eps_is_nan(cpu: CpuDevice, rows: int) -> None:
    case = Case()
    x = case.leaf(np.zeros((rows, 8)))
    case.node(Op.RMS_NORM, [x], x.ne, params=NormParams(0), name="y")
    assert np.isnan(run_case(cpu, case)["y"]).all()
