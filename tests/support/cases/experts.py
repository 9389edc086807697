"""Cases of MUL_MAT_ID and ADD_ID."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case
from tests.support.cases.copies import ROW_TYPES
from tests.support.cases.matmul import PAIRS, rounded

F32, F16, BF16, I32 = GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.I32

# ggml rounds the other operand to the type of the matrix.
LIMITS = {F16: 2e-7, BF16: 2e-5}


def cases() -> Iterator[tuple[str, Case]]:
    for type in ROW_TYPES:
        for tokens in (1, 9):
            yield f"MUL_MAT_ID-{type.name}-{tokens}", mul_mat_id(type, tokens)
    for type, b in PAIRS:
        for tokens in (1, 9):
            case = mul_mat_id(type, tokens, rows=2, b_type=b)
            yield f"MUL_MAT_ID-{type.name}-{b.name}-{tokens}", case
    for tokens in (1, 7):
        yield f"MUL_MAT_ID-each-{tokens}", mul_mat_id(F32, tokens, rows=4)
        yield f"MUL_MAT_ID-halves-{tokens}", mul_mat_id(F32, tokens, rows=2)
        yield f"MUL_MAT_ID-gaps-{tokens}", of_gaps(tokens)
    yield "MUL_MAT_ID-large", mul_mat_id(GGMLType.Q8_0, 70, k=512, n=300, n_expert=20)
    for name, tokens in {"one": 1, "some": 6}.items():
        yield f"ADD_ID-{name}", add_id(tokens)


def chosen(case: Case, n_expert: int, used: int, tokens: int) -> Tensor:
    """As of an ARGSORT of all experts, the first few for each token."""
    order = np.argsort(case.rng.random((tokens, n_expert)), axis=-1)
    leaf = case.leaf(order, I32)
    return case.view(leaf, (used, tokens), leaf.nb[:2])


def mul_mat_id(
    type: GGMLType,
    tokens: int,
    rows: int = 1,
    k: int = 256,
    n: int = 37,
    n_expert: int = 6,
    b_type: GGMLType = F32,
) -> Case:
    case = Case(limit=LIMITS.get(type))
    experts = case.leaf((k, n, n_expert), type)
    b = rounded(case, (k, rows, tokens), b_type)
    ids = chosen(case, n_expert, 4, tokens)
    case.node(Op.MUL_MAT_ID, [experts, b, ids], (n, 4, tokens))
    return case


def of_gaps(tokens: int) -> Case:
    """Sources that are views, with gaps between their rows."""
    case = Case()
    wide, many = case.leaf((64, 20, 5)), case.leaf((64, 6, tokens))
    experts = case.view(wide, (40, 13, 5), wide.nb[:3], offset=16)
    b = case.view(many, (40, 3, tokens), many.nb[:3], offset=32)
    ids = chosen(case, 5, 3, tokens)
    case.node(Op.MUL_MAT_ID, [experts, b, ids], (13, 3, tokens))
    return case


def add_id(tokens: int) -> Case:
    case = Case()
    a, b = case.leaf((45, 3, tokens)), case.leaf((45, 8))
    case.node(Op.ADD_ID, [a, b, chosen(case, 8, 3, tokens)], a.ne)
    return case
