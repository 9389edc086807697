"""Cases of DIAG, DIAG_MASK_INF, DIAG_MASK_ZERO, TRI, SOLVE_TRI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.triangles import DiagMaskParams, Triangle, TriParams
from tests.support.case import Case


def cases() -> Iterator[tuple[str, Case]]:
    yield "DIAG", of_one(Op.DIAG, (9, 1, 3, 2), (9, 9, 3, 2))
    for op in (Op.DIAG_MASK_INF, Op.DIAG_MASK_ZERO):
        for n_past in (0, 3, 20):
            params = DiagMaskParams(n_past)
            yield f"{op.name}-{n_past}", of_one(op, (12, 7, 3), params=params)
        yield f"{op.name}-in_place", in_place(op)
    for type in Triangle:
        yield f"TRI-{type.name}", of_one(Op.TRI, (9, 9, 3, 2), params=TriParams(type))
    for name, (n, k, ne2, ne3) in {
        "odd": (9, 5, 3, 2),
        "large": (64, 64, 8, 1),
    }.items():
        yield f"SOLVE_TRI-{name}", solve_tri(n, k, ne2, ne3)


def of_one(
    op: Op, ne: Sequence[int], result: Sequence[int] = (), params: Any = None
) -> Case:
    case = Case()
    x = case.leaf(ne)
    case.node(op, [x], result or x.ne, params=params)
    return case


def in_place(op: Op) -> Case:
    case = Case()
    x = case.leaf((12, 7, 3))
    case.node(op, [x], x.ne, params=DiagMaskParams(5), inplace_over=x)
    return case


def solve_tri(n: int, k: int, ne2: int, ne3: int) -> Case:
    """A matrix whose diagonal is far from 0, so that the result stays small."""
    case = Case()
    small = case.rng.standard_normal((ne3, ne2, n, n)) / n
    a, b = case.leaf(small + 2 * np.eye(n)), case.leaf((k, n, ne2, ne3))
    case.node(Op.SOLVE_TRI, [a, b], b.ne)
    return case
