"""Cases of OUT_PROD; MUL_MAT has a test file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggrpc.op import Op
from ggrpc.types import GGMLType
from tests.support.case import Case


def cases() -> Iterator[tuple[str, Case]]:
    for type in (GGMLType.F32, GGMLType.F16, GGMLType.Q8_0, GGMLType.Q4_K):
        yield f"OUT_PROD-{type.name}", out_prod((256, 7, 3), (5, 7, 3), type)
    yield "OUT_PROD-one", out_prod((33, 1), (17, 1))
    yield "OUT_PROD-shared", out_prod((20, 9, 2, 3), (11, 9, 6, 3))
    yield "OUT_PROD-transposed", of_transposed()


def out_prod(a: Sequence[int], b: Sequence[int], type: GGMLType = GGMLType.F32) -> Case:
    case = Case()
    x, y = case.leaf(a, type), case.leaf(b)
    case.node(Op.OUT_PROD, [x, y], (x.ne[0], y.ne[0], *y.ne[2:]))
    return case


def of_transposed() -> Case:
    case = Case()
    x, y = case.leaf((20, 9)), case.permute(case.leaf((9, 11)), 1, 0, 2, 3)
    case.node(Op.OUT_PROD, [x, y], (20, 11))
    return case
