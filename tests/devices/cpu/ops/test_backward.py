"""Gradients on the cpu device, compared with their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.errors import GraphError
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from tests.support.case import Case, run_case
from tests.support.cases.backward import cases, get_rows_back
from tests.support.reference import assert_agree, by_definition


def define(node: Node, *sources: Array) -> Array:
    return DEFINITIONS[node.tensor.op](node, *sources)


def silu_back(node: Node, grad: Array, x: Array) -> Array:
    s = 1 / (1 + np.exp(-x))
    return grad * (s + x * s * (1 - s))


def rms_norm_back(node: Node, grad: Array, x: Array) -> Array:
    mean = (x * x).mean(axis=-1, keepdims=True) + node.params.eps
    shared = (x * grad).mean(axis=-1, keepdims=True)
    return grad / np.sqrt(mean) - x * shared / mean**1.5


def soft_max_back(node: Node, grad: Array, y: Array) -> Array:
    return node.params.scale * y * (grad - (y * grad).sum(axis=-1, keepdims=True))


def rows_back(node: Node, grad: Array, ids: Array) -> Array:
    y = np.zeros(node.tensor.ne[::-1])
    for at, row in enumerate(ids[0, 0, 0]):
        y[0, 0, row] += grad[0, 0, at]
    return y


def log_soft_max(x: Array) -> Array:
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def loss(node: Node, logits: Array, labels: Array) -> Array:
    total = -(log_soft_max(logits) * labels).sum(keepdims=True)
    return total / (logits.size // logits.shape[-1])


def loss_back(node: Node, grad: Array, logits: Array, labels: Array) -> Array:
    rows = logits.size // logits.shape[-1]
    return (np.exp(log_soft_max(logits)) - labels) * grad / rows


def attention_back(node: Node, q: Array, k: Array, v: Array, d: Array) -> Array:
    """The definition, computed for one head and token at a time."""
    dq, dk, dv = (np.zeros_like(x) for x in (q, k, v))
    for seq, head, token in np.ndindex(q.shape[:3]):
        at, shared = (seq, head, token), (seq, head % k.shape[1])
        seen = token + k.shape[2] - q.shape[2] + 1 if node.params.masked else None
        keys, values = k[shared][:seen], v[shared][:, :seen]
        weights = np.exp(log_soft_max(keys @ q[at] * q.shape[-1] ** -0.5))
        back = weights * (d[at] @ values - weights @ (d[at] @ values))
        back *= q.shape[-1] ** -0.5
        dq[at] = back @ keys
        dk[shared][:seen] += np.outer(back, q[at])
        dv[shared][:, :seen] += np.outer(d[at], weights)
    padded = [np.append(x, np.zeros(-x.size % 4)) for x in (dq, dk, dv)]
    return np.concatenate(padded)[None, None, None]


DEFINITIONS = {
    Op.FLASH_ATTN_BACK: attention_back,
    Op.SILU_BACK: silu_back,
    Op.RMS_NORM_BACK: rms_norm_back,
    Op.SOFT_MAX_BACK: soft_max_back,
    Op.GET_ROWS_BACK: rows_back,
    Op.CROSS_ENTROPY_LOSS: loss,
    Op.CROSS_ENTROPY_LOSS_BACK: loss_back,
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_backward_op_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


@pytest.mark.parametrize("row", [-1, 5, 2**31 - 1])
def test_get_rows_back_refuses_invalid_indices(cpu: CpuDevice, row: int) -> None:
    with pytest.raises(GraphError, match=f"there is no row {row} of 5"):
        run_case(cpu, get_rows_back(8, 5, [0, row]))


def test_get_rows_back_of_no_rows_is_zeros(cpu: CpuDevice) -> None:
    y = next(iter(run_case(cpu, get_rows_back(8, 5, [], rows=2)).values()))
    assert not y.any()


def test_loss_of_no_rows_is_nan(cpu: CpuDevice) -> None:
    case = Case()
    sources = [case.leaf((8, 0)), case.leaf((8, 0))]
    case.node(Op.CROSS_ENTROPY_LOSS, sources, (1,), name="loss")
    assert np.isnan(run_case(cpu, case)["loss"]).all()
