"""The contracts of RWKV_WKV6, RWKV_WKV7, GATED_LINEAR_ATTN, GATED_DELTA_NET."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ggrpc.op import Op
from ggrpc.ops.linear_attention import (
    DeltaNet,
    DeltaNetParams,
    Gla,
    GlaParams,
    Wkv6,
    Wkv7,
)
from tests.support.case import Case
from tests.support.contracts import assert_refused

TOKENS, STATE = (8, 3, 6), (8 * 8 * 3, 2)
DELTA_SHAPES: dict[DeltaNet, Sequence[int]] = {
    DeltaNet.Q: (8, 3, 5, 1),
    DeltaNet.K: (8, 3, 5, 1),
    DeltaNet.V: (8, 6, 5, 2),
    DeltaNet.G: (1, 6, 5, 2),
    DeltaNet.BETA: (1, 6, 5, 2),
    DeltaNet.STATE: (8, 8, 6, 2),
}


@pytest.mark.parametrize(
    ("at", "ne", "message"),
    [
        (Wkv6.V, (8, 3, 5), r"v's ne is \[8, 3, 5, 1\], must be \[8, 3, 6, 1\]"),
        (Wkv6.R, (8, 2, 6), "r's ne is"),
        (Wkv6.TD, (8, 3, 1), "td's ne is"),
        (Wkv6.TF, (8, 2), "tf has 16 elements"),
        (Wkv6.STATE, (8 * 8 * 3, 4), "has 6 tokens, must be a multiple of 4 sequences"),
        (Wkv6.STATE, (8 * 8 * 3, 0), "has 6 tokens, must be a multiple of 0 sequences"),
        (Wkv6.STATE, (8 * 8 * 2, 2), "state has 256 elements, must have 384"),
    ],
)
def test_wkv6_with_invalid_sources_is_refused(
    at: Wkv6, ne: Sequence[int], message: str
) -> None:
    case = Case()
    shapes = [TOKENS, TOKENS, TOKENS, (8, 3), TOKENS, STATE]
    shapes[at] = tuple(ne)
    sources = [case.leaf(shape) for shape in shapes]
    case.node(Op.RWKV_WKV6, sources, (24, 22))
    assert_refused(case, message)


@pytest.mark.parametrize("at", list(Wkv7)[:-1], ids=lambda at: at.name)
def test_wkv7_with_invalid_sources_is_refused(at: Wkv7) -> None:
    case = Case()
    sources = [case.leaf(TOKENS) for _ in range(6)]
    sources[at] = case.leaf((8, 3, 7))
    case.node(Op.RWKV_WKV7, [*sources, case.leaf(STATE)], (24, 22))
    assert_refused(case, "'s ne is")


def test_gated_linear_attn_with_a_strided_state_is_refused() -> None:
    case = Case()
    sources = [case.leaf(TOKENS) for _ in range(4)]
    state = case.view(case.leaf((200, 2)), STATE, (4, 800))
    params = GlaParams(1)
    case.node(Op.GATED_LINEAR_ATTN, [*sources, state], (24, 22), params=params)
    assert_refused(case, "state must be contiguous")


def test_gated_linear_attn_with_invalid_result_is_refused() -> None:
    case = Case()
    sources = [case.leaf(TOKENS) for _ in range(Gla.STATE)]
    params = GlaParams(1)
    sources.append(case.leaf(STATE))
    case.node(Op.GATED_LINEAR_ATTN, sources, (24, 21), params=params)
    assert_refused(
        case, r"the result's ne is \[24, 21, 1, 1\], must be \[24, 22, 1, 1\]"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({DeltaNet.Q: (7, 3, 5, 1)}, r"q.ne\[0\] is 7, must equal v"),
        ({DeltaNet.K: (8, 4, 5, 1)}, r"v.ne\[1\] is 6, must be a multiple of k"),
        ({DeltaNet.K: (8, 3, 4, 1)}, r"k.ne\[2\] is 4, must equal v"),
        ({DeltaNet.Q: (8, 3, 5, 3)}, r"v.ne\[3\] is 2, must be a multiple of q"),
        ({DeltaNet.G: (2, 6, 5, 2)}, r"g's ne is \[2, 6, 5, 2\], must be"),
        ({DeltaNet.BETA: (1, 3, 5, 2)}, "beta's ne is"),
        ({DeltaNet.STATE: (8, 8, 6, 1)}, "state has 384 elements, must have 768"),
        ({"k": -1}, "K is -1"),
        ({"k": 2}, "the result's ne is"),
    ],
)
def test_gated_delta_net_with_invalid_sources_is_refused(
    wrong: dict[Any, Any], message: str
) -> None:
    case, params = Case(), DeltaNetParams(wrong.pop("k", 1))
    sources = [case.leaf(ne) for ne in {**DELTA_SHAPES, **wrong}.values()]
    case.node(Op.GATED_DELTA_NET, sources, (48, 10 + 16), params=params)
    assert_refused(case, message)
