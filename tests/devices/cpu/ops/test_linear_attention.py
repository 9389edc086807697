"""Linear attention on the cpu device, compared with its definition."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from tests.support.case import Case, run_case
from tests.support.cases.linear_attention import cases, delta_net, wkv7
from tests.support.reference import assert_agree, by_definition


def define(node: Node, *sources: Array) -> Array:
    if node.tensor.op == Op.GATED_DELTA_NET:
        return delta_rule(node, *sources)
    *vectors, last = sources
    seqs, (_, tokens, heads, size) = last.shape[2], vectors[0].shape
    by_token = (seqs, tokens // seqs, heads, size)
    state = last.reshape(seqs, heads, size, size)
    bonus = vectors.pop(3) if node.tensor.op == Op.RWKV_WKV6 else None
    split = [x.reshape(by_token).swapaxes(0, 1) for x in vectors]
    y = np.empty(by_token)
    for t, parts in enumerate(zip(*split, strict=True)):
        y[:, t], state = STEPS[node.tensor.op](node, state, bonus, *parts)
    return rows(y, state)


def wkv6_step(
    node: Node, state: Array, u: Array, k: Array, v: Array, r: Array, w: Array
) -> tuple[Array, Array]:
    kv = k[..., None] * v[..., None, :]
    y = np.einsum("nhi,nhij->nhj", r, state + u.reshape(k.shape[1:])[..., None] * kv)
    return y, state * w[..., None] + kv


def gla_step(
    node: Node, state: Array, u: None, k: Array, v: Array, q: Array, g: Array
) -> tuple[Array, Array]:
    state = state * g[..., None] + k[..., None] * v[..., None, :]
    return node.params.scale * np.einsum("nhi,nhij->nhj", q, state), state


def wkv7_step(node: Node, state: Array, u: None, *parts: Array) -> tuple[Array, Array]:
    r, w, k, v, a, b = (part[..., None, :] for part in parts)
    sums = (state * a).sum(axis=-1, keepdims=True)
    state = state * w + v.swapaxes(-1, -2) * k + sums * b
    return (state * r).sum(axis=-1), state


STEPS = {
    Op.RWKV_WKV6: wkv6_step,
    Op.RWKV_WKV7: wkv7_step,
    Op.GATED_LINEAR_ATTN: gla_step,
}


def delta_rule(
    node: Node, q: Array, k: Array, v: Array, g: Array, beta: Array, state: Array
) -> Array:
    seqs, tokens, heads, size = v.shape
    q, k = (
        np.tile(np.repeat(x, seqs // len(x), axis=0), (1, heads // x.shape[2], 1))
        for x in (q, k)
    )
    y, passed = np.empty_like(v), []
    for t in range(tokens):
        state = state * np.exp(g[:, t])[..., None, :]
        error = (v[:, t] - np.einsum("nhji,nhi->nhj", state, k[:, t])) * beta[:, t]
        state = state + error[..., None] * k[:, t][..., None, :]
        y[:, t] = np.einsum("nhji,nhi->nhj", state, q[:, t]) / size**0.5
        passed.append(state)
    return rows(y, *passed[: -node.params.slots - 1 : -1])


def rows(y: Array, *states: Array) -> Array:
    """The result and the states after it, as one tensor of rows."""
    flat = np.concatenate([part.ravel() for part in (y, *states)])
    return flat.reshape(1, 1, -1, y.shape[-1] * y.shape[-2])


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_linear_attention_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_wkv7_with_any_head_size_equals_its_definition(cpu: CpuDevice) -> None:
    case = wkv7(24, 3, 8, 2)
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


def test_delta_net_does_not_write_unused_slots(cpu: CpuDevice) -> None:
    few, many = delta_net(16, 2, 2, 1, k=2), delta_net(16, 2, 2, 1, k=4)
    few_y, many_y = (next(iter(run_case(cpu, case).values())) for case in (few, many))
    written = few_y.shape[2]
    np.testing.assert_array_equal(many_y[:, :, :written], few_y)
    noise = next(iter(many.results(many.image).values()))
    np.testing.assert_array_equal(many_y[:, :, written:], noise[:, :, written:])


def test_delta_net_of_an_older_client_gives_one_state(cpu: CpuDevice) -> None:
    new, old = delta_net(16, 2, 3, 2), delta_net(16, 2, 3, 2)
    old.tensors[-1] = old.tensors[-1]._replace(op_params=bytes(64))
    new_y, old_y = (next(iter(run_case(cpu, case).values())) for case in (new, old))
    np.testing.assert_array_equal(old_y, new_y)
