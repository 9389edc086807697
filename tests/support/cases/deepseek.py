"""Cases of LIGHTNING_INDEXER, DSV4_HC_COMB, DSV4_HC_PRE, DSV4_HC_POST."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.deepseek import HcCombParams, HcPreParams
from ggrpc.types import GGMLType
from tests.support.case import Case

F32, F16, BF16 = GGMLType.F32, GGMLType.F16, GGMLType.BF16
KEYS = (F32, F16, BF16, GGMLType.Q8_0, GGMLType.Q4_0, GGMLType.Q5_1)


def cases() -> Iterator[tuple[str, Case]]:
    for type in KEYS:
        yield f"LIGHTNING_INDEXER-{type.name}", indexer(type=type)
    yield "LIGHTNING_INDEXER-one_token", indexer(heads=64, keys=77, tokens=1)
    yield "LIGHTNING_INDEXER-streams", indexer(streams=4, masks=2)
    yield "LIGHTNING_INDEXER-odd", indexer(size=33, heads=3, keys=5, tokens=7)
    yield "LIGHTNING_INDEXER-large", indexer(heads=32, keys=200, tokens=40, streams=2)
    yield "LIGHTNING_INDEXER-permuted", permuted_indexer()
    for tokens, n_iter in ((1, 1), (17, 4), (257, 8), (5, 20)):
        yield f"DSV4_HC_COMB-{tokens}_tokens", comb(tokens, n_iter)
    for gated in (False, True):
        of = "_gated" if gated else ""
        yield f"DSV4_HC_PRE-one_token{of}", pre(33, 4, 1, gated)
        yield f"DSV4_HC_PRE-tokens{of}", pre(31, 4, 17, gated)
        yield f"DSV4_HC_PRE-one_stream{of}", pre(8, 1, 3, gated)
        yield f"DSV4_HC_PRE-large{of}", pre(2048, 5, 40, gated)
    for mixed in (False, True):
        of = "" if mixed else "_alone"
        yield f"DSV4_HC_POST-one_token{of}", post(33, 4, 1, mixed)
        yield f"DSV4_HC_POST-tokens{of}", post(31, 3, 17, mixed)
        yield f"DSV4_HC_POST-large{of}", post(2048, 4, 40, mixed)
    yield "DSV4_HC_POST-of_views", post_of_views()


def indexer(
    type: GGMLType = F32,
    size: int = 64,
    heads: int = 8,
    keys: int = 40,
    tokens: int = 6,
    streams: int = 1,
    masks: int = 1,
) -> Case:
    case = Case()
    q = case.leaf((size, heads, tokens, streams))
    k = case.leaf((size, 1, keys, streams), type)
    weights = case.leaf((heads, tokens, 1, streams))
    hidden = np.where(case.rng.random((masks, 1, tokens, keys)) < 0.3, -np.inf, 0)
    mask = case.leaf(hidden, F16)
    sources = [q, k, weights, mask]
    case.node(Op.LIGHTNING_INDEXER, sources, (keys, tokens, 1, streams))
    return case


def permuted_indexer() -> Case:
    """Tokens of q lie between its heads; keys are every other row of a cache."""
    case = Case()
    q = case.permute(case.leaf((32, 5, 4)), 0, 2, 1, 3)
    k = case.view(case.leaf((32, 20)), (32, 1, 10), (4, 128, 256))
    weights, mask = case.leaf((4, 5)), case.leaf((10, 5), F16)
    case.node(Op.LIGHTNING_INDEXER, [q, k, weights, mask], (10, 5))
    return case


def comb(tokens: int, n_iter: int) -> Case:
    case = Case()
    sources = [case.leaf((24, tokens)), case.leaf((3,)), case.leaf((24,))]
    params = HcCombParams(1e-6, n_iter)
    case.node(Op.DSV4_HC_COMB, sources, (4, 4, tokens), params=params)
    return case


def pre(n_embd: int, hc: int, tokens: int, gated: bool) -> Case:
    case = Case()
    x = case.leaf((n_embd, hc, tokens))
    weights = case.leaf(x.ne if gated else (hc, tokens))
    params = HcPreParams(1 / hc if gated else 1, gated)
    case.node(Op.DSV4_HC_PRE, [x, weights], (n_embd, tokens), params=params)
    return case


def post(n_embd: int, hc: int, tokens: int, mixed: bool) -> Case:
    case = Case()
    x, residual = case.leaf((n_embd, tokens)), case.leaf((n_embd, hc, tokens))
    weights = case.leaf((hc, tokens))
    comb = case.leaf((hc, hc, tokens)) if mixed else None
    case.node(Op.DSV4_HC_POST, [x, residual, weights, comb], residual.ne)
    return case


def post_of_views() -> Case:
    """The weights after a layer are a part of the mixes; x has gaps between rows."""
    case = Case()
    x = case.view(case.leaf((40, 6)), (32, 6), (4, 160))
    residual, comb = case.leaf((32, 4, 6)), case.leaf((4, 4, 6))
    weights = case.view(case.leaf((24, 6)), (4, 6), (4, 96), offset=16)
    case.node(Op.DSV4_HC_POST, [x, residual, weights, comb], residual.ne)
    return case
