"""The contracts of SOFT_MAX and FLASH_ATTN_EXT."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ggrpc.op import Op
from ggrpc.ops.attention import FlashAttnParams, SoftMaxParams
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ((65, 3), r"mask.ne\[0\] is 65, must equal a.ne\[0\], 64"),
        ((64, 2), r"mask.ne\[1\] is 2, must be at least a.ne\[1\], 3"),
        ((64, 3, 4), r"a.ne\[2\] is 6, must be a multiple of mask.ne\[2\], 4"),
        ((64, 3, 1, 2), r"a.ne\[3\] is 1, must be a multiple of mask.ne\[3\], 2"),
    ],
)
def test_soft_max_with_invalid_mask_is_refused(
    mask: Sequence[int], message: str
) -> None:
    case = Case()
    a, m = case.leaf((64, 3, 6)), case.leaf(mask)
    case.node(Op.SOFT_MAX, [a, m], a.ne, params=SoftMaxParams(1, 0))
    assert_refused(case, message)


def test_soft_max_of_too_few_sinks_is_refused() -> None:
    case = Case()
    a, sinks = case.leaf((64, 3, 6)), case.leaf((5,))
    case.node(Op.SOFT_MAX, [a, None, sinks], a.ne, params=SoftMaxParams(1, 0))
    assert_refused(case, r"sinks.ne\[0\] is 5, must equal a.ne\[2\], 6")


@pytest.mark.parametrize(
    ("q", "k", "v", "mask", "message"),
    [
        ((8, 3, 6), (9, 5, 2), (8, 5, 2), None, r"k.ne\[0\] is 9, must equal q"),
        ((8, 3, 6), (8, 5, 4), (8, 5, 2), None, r"q.ne\[2\] is 6, must be a multiple"),
        ((8, 3, 6), (8, 5, 2), (8, 5, 4), None, r"must be a multiple of v.ne\[2\], 4"),
        ((8, 3, 6), (8, 5, 2, 2), (8, 5, 2), None, r"must be a multiple of k.ne\[3\]"),
        ((8, 3, 6), (8, 5, 2), (8, 4, 2), None, r"v.ne\[1\] is 4, must equal k"),
        ((8, 3, 6), (8, 5, 2), (8, 5, 2), (4, 3), r"mask.ne\[0\] is 4, must be at"),
        ((8, 3, 6), (8, 5, 2), (8, 5, 2), (5, 2), r"mask.ne\[1\] is 2, must be at"),
        ((8, 3, 6), (8, 5, 2), (8, 5, 2), (5, 3, 4), r"multiple of mask.ne\[2\], 4"),
    ],
)
def test_flash_attn_with_invalid_sources_is_refused(
    q: Sequence[int],
    k: Sequence[int],
    v: Sequence[int],
    mask: Sequence[int] | None,
    message: str,
) -> None:
    case = Case()
    sources = [case.leaf(ne) if ne else None for ne in (q, k, v, mask)]
    params = FlashAttnParams(1, 0, 0, 0)
    case.node(Op.FLASH_ATTN_EXT, sources, (8, 6, 3), params=params)
    assert_refused(case, message)
