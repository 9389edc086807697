"""Cases of SSM_CONV, SSM_SCAN."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.recurrent import SsmScanParams
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case


def cases() -> Iterator[tuple[str, Case]]:
    yield "SSM_CONV-one_token", conv(4, 100, 4)
    yield "SSM_CONV-no_token", conv(3, 5, 4)
    yield "SSM_CONV-tokens", conv(4 + 16, 33, 4)
    yield "SSM_CONV-sequences", conv(3 + 64, 7, 4, seqs=3)
    yield "SSM_CONV-wide", conv(9 + 5, 12, 9, seqs=2)
    yield "SSM_CONV-large", conv(3 + 80, 1100, 4, seqs=2)
    yield "SSM_CONV-last_states", conv_of_last_states()
    yield "SSM_SCAN-mamba1", scan(16, 1, 96, tokens=7, seqs=2)
    yield "SSM_SCAN-mamba1_one_token", scan(16, 1, 200)
    yield "SSM_SCAN-mamba1_groups", scan(5, 3, 8, groups=4, tokens=3, granular=True)
    yield "SSM_SCAN-mamba1_large", scan(16, 1, 5000, tokens=9)
    yield "SSM_SCAN-mamba2", scan(32, 20, 6, groups=2, tokens=9, seqs=3)
    yield "SSM_SCAN-mamba2_one_token", scan(64, 16, 8, groups=1)
    yield "SSM_SCAN-mamba2_large", scan(128, 64, 24, groups=2, tokens=17, seqs=2)
    yield "SSM_SCAN-mamba2_long", scan(16, 8, 4, tokens=300)
    yield "SSM_SCAN-slots", scan(16, 8, 4, tokens=4, seqs=2, k=4)
    yield "SSM_SCAN-fewer_slots", scan(16, 8, 4, tokens=7, seqs=2, k=3)
    yield "SSM_SCAN-parts_of_one", scan_of_parts()


def conv(columns: int, d_inner: int, d_conv: int, seqs: int = 1) -> Case:
    case = Case()
    sx, c = case.leaf((columns, d_inner, seqs)), case.leaf((d_conv, d_inner))
    tokens = columns - d_conv + 1
    case.node(Op.SSM_CONV, [sx, c], (d_inner, tokens, seqs))
    return case


def conv_of_last_states() -> Case:
    """Some sequences of a longer tensor."""
    case = Case()
    wide, c = case.leaf((10, 6, 4)), case.leaf((4, 6))
    sx = case.view(wide, (10, 6, 2), (4, 40, 480), offset=240)
    case.node(Op.SSM_CONV, [sx, c], (6, 7, 2))
    return case


def scan(
    d_state: int,
    dim: int,
    heads: int,
    groups: int = 1,
    tokens: int = 1,
    seqs: int = 1,
    k: int = 1,
    granular: bool = False,
) -> Case:
    """Random sources; more states than sequences, which use them out of order."""
    case = Case()
    x = case.leaf((dim, heads, tokens, seqs))
    b, c = (case.leaf((d_state, groups, tokens, seqs)) for _ in range(2))
    decays = d_state if dim == 1 or granular else 1
    add_scan(case, x, b, c, decays, k)
    return case


def scan_without_heads(d_state: int, d_inner: int, tokens: int, seqs: int) -> Case:
    """As clients before 2025-07 send it: neither heads nor ids."""
    case = Case()
    s, x = case.leaf((d_state, d_inner, seqs)), case.leaf((d_inner, tokens, seqs))
    dt = case.leaf(case.rng.normal(0, 3, (seqs, tokens, d_inner)))
    a = case.leaf(case.rng.uniform(-1, -0.1, (d_inner, d_state)))
    wide = case.leaf((2 * d_state, tokens, seqs))
    b, c = (
        case.view(wide, (d_state, tokens, seqs), wide.nb[:3], offset=4 * d_state * at)
        for at in range(2)
    )
    size = x.nelements + s.nelements
    sources = [s, x, dt, a, b, c]
    case.node(Op.SSM_SCAN, sources, (size,), params=SsmScanParams(0))
    return case


def scan_of_parts() -> Case:
    """x, B and C side by side, as the convolution gives them."""
    case = Case()
    wide = case.leaf((8 * 6 + 2 * 2 * 16, 5, 3))
    row, seq = wide.nb[1], wide.nb[2]
    x = case.view(wide, (8, 6, 5, 3), (4, 32, row, seq))
    b = case.view(wide, (16, 2, 5, 3), (4, 64, row, seq), offset=192)
    c = case.view(wide, (16, 2, 5, 3), (4, 64, row, seq), offset=192 + 128)
    add_scan(case, x, b, c, 1, 1)
    return case


def add_scan(case: Case, x: Tensor, b: Tensor, c: Tensor, decays: int, k: int) -> None:
    dim, heads, tokens, seqs = x.ne
    d_state = b.ne[0]
    s = case.leaf((d_state, dim, heads, seqs + 1))
    dt = case.leaf(case.rng.normal(0, 3, (seqs, tokens, heads)))
    a = case.leaf(case.rng.uniform(-1, -0.1, (heads, decays)))
    ids = case.leaf(np.arange(seqs, 0, -1), GGMLType.I32)
    size = x.nelements + k * d_state * dim * heads * seqs
    sources = [s, x, dt, a, b, c, ids]
    case.node(Op.SSM_SCAN, sources, (size,), params=SsmScanParams(k))
