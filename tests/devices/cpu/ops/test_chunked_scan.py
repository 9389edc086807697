"""The recurrent ops of the cpu device, computed in chunks of tokens and in steps."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.cpu.ops import chunked_scan
from ggrpc.formats.nmse import nmse
from ggrpc.op import Op
from ggrpc.ops.linear_attention import Wkv6, Wkv7
from tests.support.case import Array, Case, run_case
from tests.support.cases.linear_attention import (
    delta_net,
    gla,
    rows_ne,
    vectors,
    wkv6,
    wkv7,
)
from tests.support.cases.recurrent import scan

TOKENS = chunked_scan.TOKENS
CASES = {
    "one_chunk": wkv6(24, 3, TOKENS, 1),
    "a_chunk_and_a_token": gla(24, 3, TOKENS + 1, 1),
    "sequences": wkv7(16, 3, 2 * TOKENS + 3, 2),
    "delta": delta_net(32, 4, 3 * TOKENS, 2, keys=(2, 1)),
    "delta_of_each": delta_net(16, 4, 2 * TOKENS, 1, gates=16),
    "slots": delta_net(16, 4, 2 * TOKENS + 1, 1, k=3),
    "slots_of_a_chunk": delta_net(16, 4, TOKENS + 2, 1, k=3),
    "heads_of_their_own": scan(16, 8, 4, groups=4, tokens=2 * TOKENS),
    "heads_of_a_group": scan(16, 8, 4, groups=2, tokens=2 * TOKENS),
    "rates": scan(16, 1, 8, groups=8, tokens=2 * TOKENS),
}


def by_steps(cpu: CpuDevice, case: Case, monkeypatch: pytest.MonkeyPatch) -> Array:
    with monkeypatch.context() as patch:
        patch.setattr(chunked_scan, "TOKENS", 1 << 20)
        (y,) = run_case(cpu, case).values()
    return y


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_chunks_equal_steps(
    cpu: CpuDevice, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    (y,) = run_case(cpu, case).values()
    assert nmse(y, by_steps(cpu, case, monkeypatch)) < 1e-12


def decaying(op: Op, low: float, high: float) -> Case:
    """A WKV6 or WKV7 node whose decays are between two numbers."""
    case, heads, tokens = Case(), 3, 2 * TOKENS
    ne = 64, heads, tokens
    w = case.leaf(case.rng.uniform(low, high, ne[::-1]))
    state = case.leaf((64 * 64 * heads, 1))
    places = Wkv6 if op == Op.RWKV_WKV6 else Wkv7
    sources = {place: vectors(case, *ne) for place in range(len(places.__members__))}
    sources[places.STATE] = state
    if places is Wkv6:
        sources.update({Wkv6.TD: w, Wkv6.TF: case.leaf((64, heads))})
    else:
        sources[Wkv7.W] = w
    case.node(op, [sources[at] for at in sorted(sources)], rows_ne(ne, 1))
    return case


@pytest.mark.parametrize("op", [Op.RWKV_WKV6, Op.RWKV_WKV7], ids=lambda op: op.name)
@pytest.mark.parametrize("low", [0.02, 0.3, 0.9999, -1])
def test_strong_weak_and_negative_decays_lose_no_precision(
    cpu: CpuDevice, op: Op, low: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = decaying(op, low, 1)
    (y,) = run_case(cpu, case).values()
    assert nmse(y, by_steps(cpu, case, monkeypatch)) < 1e-11


@pytest.mark.parametrize("bounds", [(0, 0), (1e-9, 1e-2), (20, 90)])
def test_extreme_decays_are_computed_by_steps(
    cpu: CpuDevice, bounds: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = decaying(Op.RWKV_WKV6, *bounds)
    (y,) = run_case(cpu, case).values()
    np.testing.assert_array_equal(y, by_steps(cpu, case, monkeypatch))
