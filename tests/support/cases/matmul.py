"""Cases of OUT_PROD, and of MUL_MAT beside those in its own test file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ggrpc.op import Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Case

# Types that ggml's CPU multiplies with each other as they are.
PAIRS = (
    (GGMLType.F16, GGMLType.F16),
    (GGMLType.BF16, GGMLType.BF16),
    (GGMLType.Q4_0, GGMLType.Q8_0),
    (GGMLType.Q5_1, GGMLType.Q8_1),
    (GGMLType.Q4_K, GGMLType.Q8_K),
)


def cases() -> Iterator[tuple[str, Case]]:
    for type in (GGMLType.F32, GGMLType.F16, GGMLType.Q8_0, GGMLType.Q4_K):
        yield f"OUT_PROD-{type.name}", out_prod((256, 7, 3), (5, 7, 3), type)
    yield "OUT_PROD-one", out_prod((33, 1), (17, 1))
    yield "OUT_PROD-shared", out_prod((20, 9, 2, 3), (11, 9, 6, 3))
    yield "OUT_PROD-transposed", of_transposed()
    for a, b in PAIRS:
        yield f"MUL_MAT-{a.name}-{b.name}", mul_mat(a, b)


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


def rounded(case: Case, ne: Sequence[int], type: GGMLType) -> Tensor:
    """Numbers packed as ggml packs them: it relies on the sums in the blocks."""
    return case.leaf(case.rng.standard_normal(ne[::-1]), type)


def mul_mat(a: GGMLType, b: GGMLType) -> Case:
    case = Case()
    x, y = case.leaf((256, 13, 2), a), rounded(case, (256, 5, 6), b)
    case.node(Op.MUL_MAT, [x, y], (13, 5, 6))
    return case
