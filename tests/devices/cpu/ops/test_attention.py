"""SOFT_MAX and FLASH_ATTN_EXT on the cpu device, by definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.scratch import Scratch
from ggrpc.formats.codecs import Array
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.attention import FlashAttnParams
from ggrpc.types import GGMLType
from tests.support.case import Case, run_case
from tests.support.cases.attention import cases, flash_attn
from tests.support.reference import assert_agree, by_definition


def define(node: Node, *sources: Array | None) -> Array:
    if node.tensor.op == Op.SOFT_MAX:
        a, mask, sinks, *_ = sources
        assert a is not None
        scores = a * node.params.scale + bias(node, a.shape, mask)
        return weights(scores, sinks)
    return define_flash_attn(node, *sources[:5])


def define_flash_attn(
    node: Node, q: Array, k: Array, v: Array, mask: Array | None, sinks: Array | None
) -> Array:
    p: FlashAttnParams = node.params
    k, v = (
        x.repeat(q.shape[1] // x.shape[1], 1).repeat(q.shape[0] // x.shape[0], 0)
        for x in (k, v)
    )
    scores = q @ k.swapaxes(2, 3) * p.scale
    if p.logit_softcap:
        scores = p.logit_softcap * np.tanh(scores / p.logit_softcap)
    scores = scores + bias(node, scores.shape, mask)
    return (weights(scores, sinks) @ v).swapaxes(1, 2)


def bias(node: Node, shape: tuple[int, ...], mask: Array | None) -> Array | float:
    """The mask, repeated over heads and batches, times the slope of each head."""
    if mask is None:
        return 0.0
    times = (shape[0] // mask.shape[0], shape[1] // mask.shape[1], 1, 1)
    mask = np.tile(mask[:, :, : shape[2]], times)
    heads, max_bias = shape[1], node.params.max_bias
    if not max_bias:
        return mask
    n = 2 ** math.floor(math.log2(heads))
    m0, m1 = 2 ** (-max_bias / n), 2 ** (-max_bias / 2 / n)
    slopes = [m0 ** (h + 1) if h < n else m1 ** (2 * (h - n) + 1) for h in range(heads)]
    return mask * np.array(slopes)[:, None, None]


def weights(scores: Array, sinks: Array | None) -> Array:
    """Softmax, but 0 for rows that are all -inf."""
    powers = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e30))
    total = powers.sum(-1, keepdims=True)
    if sinks is not None:
        top = np.maximum(scores.max(-1, keepdims=True), -1e30)
        total = total + np.exp(sinks[0, 0, 0, :, None, None] - top)
    return powers / np.where(total == 0, 1, total)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=name) for name, case in cases()]
)
def test_attention_equals_its_definition(cpu: CpuDevice, case: Case) -> None:
    with np.errstate(over="ignore"):  # a sink far above the masked scores
        right = by_definition(case, define)
    assert_agree(case, run_case(cpu, case), right)


def test_flash_attn_with_different_numbers_of_k_and_v_heads(
    cpu: CpuDevice,
) -> None:
    case = Case()
    q = case.leaf((32, 3, 6))
    k, v = case.leaf((32, 10, 2)), case.leaf((16, 10, 3))
    p = FlashAttnParams(0.2, 0, 0, 0)
    case.node(Op.FLASH_ATTN_EXT, [q, k, v], (16, 6, 3), params=p)
    assert_agree(case, run_case(cpu, case), by_definition(case, define))


@pytest.mark.parametrize("v_heads", [1, 2])
def test_flash_attn_without_keys_is_zero(cpu: CpuDevice, v_heads: int) -> None:
    case = Case()
    q, k, v = case.leaf((32, 3, 2)), case.leaf((32, 0, 2)), case.leaf((32, 0, v_heads))
    p = FlashAttnParams(0.2, 0, 0, 0)
    case.node(Op.FLASH_ATTN_EXT, [q, k, v], (32, 2, 3), params=p, name="y")
    assert not run_case(cpu, case)["y"].any()


@pytest.mark.parametrize("mask", [0.0, -np.inf])
def test_flash_attn_with_a_sink_of_no_weight_equals_one_without(
    cpu: CpuDevice, mask: float
) -> None:
    case = Case()
    q, k, v = case.leaf((32, 3, 2)), case.leaf((32, 9, 2)), case.leaf((32, 9, 2))
    m = case.leaf(np.full((3, 9), mask), GGMLType.F16)
    sinks = case.leaf(np.full(2, -np.inf))
    p = FlashAttnParams(0.2, 0, 0, 0)
    for sources in ([q, k, v, m], [q, k, v, m, sinks]):
        case.node(Op.FLASH_ATTN_EXT, sources, (32, 2, 3), params=p)
    without, with_sinks = run_case(cpu, case).values()
    np.testing.assert_allclose(with_sinks, without)


def test_flash_attn_of_long_context_uses_little_memory(
    cpu: CpuDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    take = Scratch.take

    def counting(self: Scratch, shape: tuple[int, ...], dtype: np.dtype) -> Array:
        array = take(self, shape, dtype)
        taken.append(array.nbytes)
        return array

    monkeypatch.setattr(Scratch, "take", counting)
    f16 = (GGMLType.F16, GGMLType.F16)
    case = flash_attn(128, n_kv=8192, heads=(8, 2), types=f16)  # scores: 32 MB
    run_case(cpu, case)
    assert sum(taken) / cpu.workers.threads < 16e6
