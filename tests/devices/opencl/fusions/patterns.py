"""Graphs that the fusions match, each built into a `Case`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ggrpc.op import GluOp, Op
from ggrpc.ops.activations import GluParams
from ggrpc.ops.arithmetic import ScaleParams
from ggrpc.ops.attention import SoftMaxParams
from ggrpc.ops.norms import NormParams
from ggrpc.ops.rope import RopeMode
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.cases.experts import chosen
from tests.support.cases.rope import params

F32, F16 = GGMLType.F32, GGMLType.F16
Q4_0, Q8_0 = GGMLType.Q4_0, GGMLType.Q8_0
SWIGLU = GluParams(GluOp.SWIGLU, 0, 0, 0)


def product(case: Case, x: Tensor, n: int, type: GGMLType = Q8_0) -> Tensor:
    return case.node(Op.MUL_MAT, [case.leaf((x.ne[0], n), type), x], (n, *x.ne[1:]))


def biased(case: Case, y: Tensor, inplace: bool = False) -> Tensor:
    over = y if inplace else None
    return case.node(Op.ADD, [y, case.leaf(y.ne)], y.ne, inplace_over=over)


def norm_and_weight(case: Case, x: Tensor, inplace: bool = False) -> Tensor:
    y = case.node(Op.RMS_NORM, [x], x.ne, params=NormParams(1e-5))
    over = y if inplace else None
    return case.node(Op.MUL, [y, case.leaf((x.ne[0],))], x.ne, inplace_over=over)


def ropes_and_caches(
    case: Case, type: GGMLType, mode: RopeMode, tokens: int, wrong: int = -1
) -> None:
    """ROPE of queries and keys, and SET_ROWS of keys and values to caches of 9 rows."""
    pos = case.leaf(np.arange(tokens) + 3, GGMLType.I32)
    q, k, p = case.leaf((64, 6, tokens)), case.leaf((64, 2, tokens)), params(mode)
    values = case.leaf((128, tokens))
    case.node(Op.ROPE, [q, pos], q.ne, params=p)
    keys = case.node(Op.ROPE, [k, pos], k.ne, params=p)
    for i, rows in enumerate([case.view(keys, (128, tokens)), values]):
        ids = np.array([7, 0, 4, 2, 5][:tokens])
        at = case.leaf(ids + 9 * (i == wrong), GGMLType.I64)
        cache = case.leaf(np.zeros((9, 128)), type)
        ne, name = cache.ne, f"cache {i}"
        sources = [rows, at, cache]
        case.node(Op.SET_ROWS, sources, ne, type, inplace_over=cache, name=name)


def caches(case: Case, type: GGMLType) -> None:
    """SET_ROWS of keys and of values."""
    for ids in ([4, 0, 7], [1, 2, 3]):
        rows, cache = case.leaf((64, 3)), case.leaf(np.zeros((9, 64)), type)
        at = case.leaf(np.array(ids), GGMLType.I64)
        case.node(Op.SET_ROWS, [rows, at, cache], cache.ne, type, inplace_over=cache)


def attention_of_one(
    case: Case, n_kv: int, *, heads: int = 8, joined: bool = True, inplace: bool = True
) -> Tensor:
    """Attention of one token, with heads of 32 elements and two heads of keys."""
    q, mask = case.leaf((32, 1, heads)), case.leaf((n_kv, 1))
    k, v = (case.leaf(ne, F16) for ne in ((32, n_kv, 2), (n_kv, 32, 2)))
    scores = case.node(Op.MUL_MAT, [k, q], (n_kv, 1, heads))
    over = scores if inplace else None
    weights = case.node(
        Op.SOFT_MAX,
        [scores, mask],
        scores.ne,
        params=SoftMaxParams(0.25, 0),
        inplace_over=over,
    )
    sums = case.node(Op.MUL_MAT, [v, weights], q.ne)
    rows = case.view(sums, (32, heads), sums.nb[::2])
    return case.node(Op.CONT, [rows], (32 * heads,)) if joined else sums


def gated(case: Case, n: int, type: GGMLType = Q8_0) -> Tensor:
    """The products gate and up of one row of 256 elements, and their GLU."""
    x = case.leaf((256, 1))
    gate, up = product(case, x, n, type), product(case, x, n, type)
    return case.node(Op.GLU, [gate, up], gate.ne, params=SWIGLU)


def gated_experts(case: Case, tokens: int, swapped: bool = False) -> None:
    """The products gate and up of three experts out of six, and their GLU."""
    gate, up = (case.leaf((64, 45, 6), Q4_0) for _ in range(2))
    x = case.leaf((64, 1, tokens))
    ids = chosen(case, 6, 3, tokens)
    ne = (45, 3, tokens)
    halves = [case.node(Op.MUL_MAT_ID, [a, x, ids], ne) for a in (gate, up)]
    if swapped:
        halves.reverse()
    case.node(Op.GLU, halves, ne, params=GluParams(GluOp.GEGLU, 0, 0, 0))


def sum_of_experts(case: Case, tokens: int) -> None:
    """The sum of five rows for each token, term by term, and its square."""
    experts = case.leaf((83, 5, tokens))
    terms = [
        case.view(experts, (83, tokens), (4, experts.nb[2]), i * experts.nb[1])
        for i in range(5)
    ]
    x = case.node(Op.ADD, terms[:2], terms[0].ne)
    for term in terms[2:]:
        x = case.node(Op.ADD, [x, term], x.ne, inplace_over=x)
    case.node(Op.SQR, [x], x.ne)


def _sum_norm_and_weight(case: Case) -> None:
    x = case.node(Op.ADD, [case.leaf((96, 2)), case.leaf((96, 2))], (96, 2))
    norm_and_weight(case, x)


def _quantized_norm(case: Case) -> None:
    x = case.node(Op.ADD, [case.leaf((96, 1)), case.leaf((96, 1))], (96, 1))
    z = norm_and_weight(case, x)
    product(case, z, 37)
    product(case, z, 12, Q4_0)


def _projections(case: Case) -> None:
    """Queries, keys and values with other nodes in between."""
    x, other = case.leaf((128, 1)), case.leaf((64, 1))
    q = product(case, x, 64)
    case.node(Op.SCALE, [q], q.ne, params=ScaleParams(0.5, 0))
    case.node(Op.SQR, [other], other.ne)
    k = product(case, x, 35)
    case.node(Op.SQR, [k], k.ne)
    product(case, x, 19)


def _biased_projections(case: Case) -> None:
    x = case.leaf((128, 1))
    for n in (64, 19, 35):
        y = biased(case, product(case, x, n))
        case.node(Op.SQR, [y], y.ne)


def _quantized_glu(case: Case) -> None:
    product(case, gated(case, 544, Q4_0), 19)


def _glu_as_long_as_its_source(case: Case) -> None:
    """A GLU whose quantized rows use the memory of the rows that the products read."""
    product(case, gated(case, 256), 19)


def _quantized_attention(case: Case) -> None:
    product(case, attention_of_one(case, 40, inplace=False), 37)


def _two_ropes(case: Case) -> None:
    pos = case.leaf(np.arange(5) + 3, GGMLType.I32)
    q, k = case.leaf((64, 6, 5)), case.leaf((64, 2, 5))
    p = params(RopeMode.NEOX)
    rotated = case.node(Op.ROPE, [q, pos], q.ne, params=p)
    case.node(Op.SQR, [rotated], q.ne)
    case.node(Op.ROPE, [k, pos], k.ne, params=p)


# Every fusion matches at least one of these.
PATTERNS: dict[str, Callable[[Case], object]] = {
    "norm": lambda case: norm_and_weight(case, case.leaf((83, 3))),
    "sum_norm": _sum_norm_and_weight,
    "quantized_norm": _quantized_norm,
    "gated": lambda case: gated(case, 64),
    "quantized_glu": _quantized_glu,
    "glu_as_long_as_its_source": _glu_as_long_as_its_source,
    "projections": _projections,
    "biased_projections": _biased_projections,
    "gated_experts": lambda case: gated_experts(case, tokens=1),
    "attention": lambda case: attention_of_one(case, 17, inplace=False),
    "quantized_attention": _quantized_attention,
    "ropes": _two_ropes,
    "ropes_and_caches": lambda case: ropes_and_caches(case, Q8_0, RopeMode.NORMAL, 5),
    "ropes_and_f32_caches": lambda case: ropes_and_caches(case, F32, RopeMode.NEOX, 5),
    "caches": lambda case: caches(case, F16),
    "f32_caches": lambda case: caches(case, F32),
    "sum_of_experts": lambda case: sum_of_experts(case, tokens=3),
    "sum_of_experts_of_one": lambda case: sum_of_experts(case, tokens=1),
}
