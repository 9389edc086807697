"""SSM_CONV and SSM_SCAN on the cpu device, by definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.errors import GraphError
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.recurrent import SsmScanParams
from ggrpc.types import GGMLType
from tests.support.case import Case, run_case
from tests.support.cases.recurrent import cases, scan, scan_without_heads
from tests.support.reference import assert_agree, by_definition


def define(node: Node, *sources: Array) -> Array:
    return (convolve if node.tensor.op == Op.SSM_CONV else states)(node, *sources)


def convolve(node: Node, sx: Array, c: Array) -> Array:
    tokens, columns = node.tensor.ne[1], enumerate(c[0, 0].T[..., None])
    y: Array = sum(sx[..., j : j + tokens] * column for j, column in columns)
    return y.swapaxes(-1, -2)


def states(
    node: Node, s: Array, x: Array, dt: Array, a: Array, b: Array, c: Array, ids: Array
) -> Array:
    state, dt = s[ids[0, 0, 0]], np.logaddexp(dt[0], 0)
    repeats = x.shape[2] // b.shape[2]
    b, c = (np.repeat(array, repeats, axis=2) for array in (b, c))
    y, passed = np.empty_like(x), []
    for t in range(x.shape[1]):
        decay = np.exp(dt[:, t, :, None, None] * a[0, 0][:, None])
        new = np.einsum("nh,nhd,nhs->nhds", dt[:, t], x[:, t], b[:, t])
        state = state * decay + new
        y[:, t] = np.einsum("nhds,nhs->nhd", state, c[:, t])
        passed.append(state)
    last = passed[: -node.params.slots - 1 : -1]
    return np.concatenate([part.ravel() for part in (y, *last)])[None, None, None]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_recurrent_op_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_ssm_scan_does_not_write_unused_slots(cpu: CpuDevice) -> None:
    few, many = scan(16, 8, 4, tokens=2, k=2), scan(16, 8, 4, tokens=2, k=5)
    few_y, many_y = (next(iter(run_case(cpu, case).values())) for case in (few, many))
    written = few_y.size
    np.testing.assert_array_equal(many_y[..., :written], few_y)
    noise = next(iter(many.results(many.image).values()))
    np.testing.assert_array_equal(many_y[..., written:], noise[..., written:])


def states_without_heads(node: Node, *sources: Array) -> Array:
    s, x, dt, a, b, c, _ = sources
    ids = np.arange(x.shape[1])[None, None, None]
    s, b, c = s[0, :, :, None], b[0, :, :, None], c[0, :, :, None]
    return states(node, s, x[0, ..., None], dt, a, b, c, ids)


@pytest.mark.parametrize(
    ("d_inner", "tokens", "seqs"), [(96, 7, 3), (200, 1, 1), (9, 4, 1)]
)
def test_ssm_scan_of_a_client_without_heads_equals_its_definition(
    cpu: CpuDevice, d_inner: int, tokens: int, seqs: int
) -> None:
    case = scan_without_heads(16, d_inner, tokens, seqs)
    right = by_definition(case, states_without_heads)
    assert_agree(case, run_case(cpu, case), right)


def test_ssm_scan_of_an_older_client_gives_one_state(cpu: CpuDevice) -> None:
    new, old = scan(16, 8, 4, tokens=2), scan(16, 8, 4, tokens=2)
    old.tensors[-1] = old.tensors[-1]._replace(op_params=bytes(64))
    new_y, old_y = (next(iter(run_case(cpu, case).values())) for case in (new, old))
    np.testing.assert_array_equal(old_y, new_y)


def test_ssm_scan_without_a_state_gives_zeros(cpu: CpuDevice) -> None:
    (y,) = run_case(cpu, scan(0, 8, 4, tokens=3)).values()
    assert y.shape[-1] == 8 * 4 * 3
    assert not y.any()


@pytest.mark.parametrize("state", [-1, 3, 2**31 - 1])
def test_ssm_scan_refuses_an_invalid_state_index(cpu: CpuDevice, state: int) -> None:
    case = Case()
    s, x = case.leaf((4, 2, 3, 3)), case.leaf((2, 3, 1, 2))
    dt, a = case.leaf((3, 1, 2)), case.leaf((1, 3))
    b, c = case.leaf((4, 1, 1, 2)), case.leaf((4, 1, 1, 2))
    ids = case.leaf(np.array([0, state]), GGMLType.I32)
    sources, params = [s, x, dt, a, b, c, ids], SsmScanParams(1)
    case.node(Op.SSM_SCAN, sources, (12 + 48,), params=params, name="scan")
    with pytest.raises(GraphError, match=f"'scan': there is no state {state} of 3"):
        run_case(cpu, case)
