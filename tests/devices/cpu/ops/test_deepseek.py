"""DeepSeek's ops on the cpu device, compared with their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from tests.support.case import Case, run_case
from tests.support.cases.deepseek import cases, pre
from tests.support.reference import assert_agree, by_definition


def define(node: Node, *sources: Array | None) -> Array:
    return DEFINITIONS[node.tensor.op](node, *sources)


def index(node: Node, q: Array, k: Array, weights: Array, mask: Array) -> Array:
    scores = np.maximum(np.einsum("sthd,skd->sthk", q, k[:, :, 0]), 0)
    y = np.einsum("sthk,sth->stk", scores, weights[:, 0])[:, None]
    return y + np.tile(mask, (len(y) // len(mask), 1, 1, 1))


def comb(node: Node, mixes: Array, scale: Array, base: Array) -> Array:
    eps, n_iter = node.params
    scores = (mixes * scale[..., 2:3] + base)[0, 0, :, 8:].reshape(-1, 4, 4)
    y = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y = y / y.sum(axis=-1, keepdims=True) + eps
    for turn in range(2 * n_iter - 1):
        y = y / (y.sum(axis=-2 + turn % 2, keepdims=True) + eps)
    return y[None]


def mean(node: Node, x: Array, weights: Array) -> Array:
    if node.params.gated:
        weights = 1 / (1 + np.exp(-weights))
    else:
        weights = weights[0, 0][..., None]
    return node.params.factor * (x * weights).sum(axis=2)[None]


def post(node: Node, x: Array, residual: Array, weights: Array, comb: Array) -> Array:
    if comb is not None:
        residual = np.einsum("ztji,ztje->ztie", comb, residual)
    return residual + x[0, 0][:, None] * weights[0, 0][..., None]


DEFINITIONS = {
    Op.LIGHTNING_INDEXER: index,
    Op.DSV4_HC_COMB: comb,
    Op.DSV4_HC_PRE: mean,
    Op.DSV4_HC_POST: post,
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_deepseek_op_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_hc_pre_of_an_older_client_is_not_scaled(cpu: CpuDevice) -> None:
    new, old = pre(32, 4, 3, gated=False), pre(32, 4, 3, gated=False)
    old.tensors[-1] = old.tensors[-1]._replace(op_params=bytes(64))
    new_y, old_y = (next(iter(run_case(cpu, case).values())) for case in (new, old))
    np.testing.assert_array_equal(old_y, new_y)
