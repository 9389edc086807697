"""The contracts of LIGHTNING_INDEXER, DSV4_HC_COMB, DSV4_HC_PRE, DSV4_HC_POST."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ggrpc.op import Op
from ggrpc.ops.deepseek import HcCombParams, HcPreParams
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.contracts import assert_refused


@pytest.mark.parametrize(
    ("k", "weights", "mask", "message"),
    [
        ((9, 1, 5, 2), (4, 3, 1, 2), (5, 3), "k's ne is"),
        ((8, 2, 5, 2), (4, 3, 1, 2), (5, 3), "k's ne is"),
        ((8, 1, 5, 1), (4, 3, 1, 2), (5, 3), r"k.ne\[3\] is 1, must equal q"),
        ((8, 1, 5, 2), (4, 2, 1, 2), (5, 3), "weights's ne is"),
        ((8, 1, 5, 2), (4, 3, 1, 2), (4, 3), "mask's ne is"),
        ((8, 1, 5, 2), (4, 3, 1, 2), (5, 3, 1, 4), "must be a multiple of mask"),
    ],
)
def test_indexer_with_invalid_sources_is_refused(
    k: Sequence[int], weights: Sequence[int], mask: Sequence[int], message: str
) -> None:
    case = Case()
    sources = [case.leaf((8, 4, 3, 2)), case.leaf(k), case.leaf(weights)]
    sources.append(case.leaf(mask, GGMLType.F16))
    case.node(Op.LIGHTNING_INDEXER, sources, (5, 3, 1, 2))
    assert_refused(case, message)


@pytest.mark.parametrize(
    ("mixes", "scale", "base", "n_iter", "message"),
    [
        (15, 3, 15, 1, r"mixes's ne is \[15, 2, 1, 1\], must be \[24, 2, 1, 1\]"),
        (24, 2, 24, 1, r"scale's ne is \[2, 1, 1, 1\], must be one row"),
        (24, 3, 23, 1, "base's ne is"),
        (24, 3, 24, 0, "n_iter is 0, must be 1 to 1000"),
    ],
)
def test_hc_comb_with_invalid_sources_is_refused(
    mixes: int, scale: int, base: int, n_iter: int, message: str
) -> None:
    case = Case()
    sources = [case.leaf((mixes, 2)), case.leaf((scale,)), case.leaf((base,))]
    params = HcCombParams(1e-6, n_iter)
    case.node(Op.DSV4_HC_COMB, sources, (4, 4, 2), params=params)
    assert_refused(case, message)


@pytest.mark.parametrize(("gated", "ne"), [(0, (8, 4, 3)), (1, (4, 3))])
def test_hc_pre_with_invalid_weights_is_refused(gated: int, ne: Sequence[int]) -> None:
    case = Case()
    sources, params = [case.leaf((8, 4, 3)), case.leaf(ne)], HcPreParams(1, gated)
    case.node(Op.DSV4_HC_PRE, sources, (8, 3), params=params)
    assert_refused(case, "weights's ne is")


@pytest.mark.parametrize(
    ("residual", "post", "comb", "message"),
    [
        ((7, 4, 3), (4, 3), (4, 4, 3), r"residual.ne\[0\] is 7, must equal x"),
        ((8, 4, 2), (4, 3), (4, 4, 3), "residual's ne is"),
        ((8, 4, 3), (3, 3), (4, 4, 3), "post's ne is"),
        ((8, 4, 3), (4, 3), (4, 3, 3), "comb's ne is"),
    ],
)
def test_hc_post_with_invalid_sources_is_refused(
    residual: Sequence[int], post: Sequence[int], comb: Sequence[int], message: str
) -> None:
    case = Case()
    sources = [case.leaf(ne) for ne in ((8, 3), residual, post, comb)]
    case.node(Op.DSV4_HC_POST, sources, (8, 4, 3))
    assert_refused(case, message)
