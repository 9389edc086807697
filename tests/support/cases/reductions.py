"""Cases of SUM, SUM_ROWS, MEAN, CUMSUM, COUNT_EQUAL, REPEAT_BACK, ARGMAX, ..."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.reductions import ArgsortParams, SortOrder
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Array, Case

FLOATS = (GGMLType.F32, GGMLType.F16, GGMLType.BF16)
REPEATS = {
    "rows": ((8, 6), (8, 1)),
    "all": ((6, 4, 6, 4), (2, 2, 3, 2)),
    "none": ((5, 3), (5, 3)),
    "large": ((512, 300), (256, 1)),
}


def cases() -> Iterator[tuple[str, Case]]:
    for op in (Op.SUM_ROWS, Op.MEAN, Op.CUMSUM):
        for name, ne in {"odd": (67, 5, 3, 2), "large": (700, 200)}.items():
            case = Case()
            x = case.leaf(ne)
            case.node(op, [x], x.ne if op == Op.CUMSUM else (1, *x.ne[1:]))
            yield f"{op.name}-{name}", case
        yield f"{op.name}-gaps", gaps(op)
    for type in FLOATS:
        for name, ne in {"odd": (67, 5, 3, 2), "one": (1,)}.items():
            case = Case()
            case.node(Op.SUM, [positive(case, ne, type)], (1,), type)
            yield f"SUM-{type.name}-{name}", case
    yield "SUM-permuted", permuted_sum()
    yield "COUNT_EQUAL", count_equal()
    for name, (ne, result) in REPEATS.items():
        case = Case()
        case.node(Op.REPEAT_BACK, [case.leaf(ne)], result)
        yield f"REPEAT_BACK-{name}", case
    for name, ne in {"one": (500,), "many": (129, 17)}.items():
        yield f"ARGMAX-{name}", argmax(ne)
    yield "ARGMAX-ties", argmax_of_ties()
    for order in SortOrder:
        for name, ne in {"odd": (67, 5, 3), "large": (700, 200)}.items():
            case = Case()
            x = case.leaf(shuffled(ne))
            case.node(Op.ARGSORT, [x], x.ne, GGMLType.I32, ArgsortParams(order))
            yield f"ARGSORT-{order.name}-{name}", case
    for ne in ((67, 5, 3), (700, 200), (9, 4)):
        for k in (1, 2, 8):
            case = Case()
            x = case.leaf(shuffled(ne))
            case.node(Op.TOP_K, [x], (k, *x.ne[1:]), GGMLType.I32)
            yield f"TOP_K-{ne[0]}-{k}", case


def shuffled(ne: tuple[int, ...]) -> Array:
    """Rows without equal values, whose order ggml leaves open."""
    rows = np.broadcast_to(np.arange(ne[0], dtype=np.float32), ne[::-1])
    return np.random.default_rng(9).permuted(rows, axis=-1)


def positive(case: Case, ne: tuple[int, ...], type: GGMLType) -> Tensor:
    """Numbers whose sum is not the small difference of large ones."""
    return case.leaf(np.abs(case.rng.standard_normal(ne[::-1])), type)


def gaps(op: Op) -> Case:
    case = Case()
    wide = case.leaf((64, 6, 5))
    x = case.view(wide, (20, 3, 5), (4, 512, 1536), offset=16)
    case.node(op, [x], x.ne if op == Op.CUMSUM else (1, 3, 5))
    return case


def permuted_sum() -> Case:
    case = Case()
    x = case.permute(positive(case, (11, 5, 6), GGMLType.F32), 0, 2, 1, 3)
    case.node(Op.SUM, [x], (1,))
    return case


def count_equal() -> Case:
    case = Case()
    a, b = (case.leaf(case.rng.integers(0, 4, (30, 7)), GGMLType.I32) for _ in "ab")
    case.node(Op.COUNT_EQUAL, [a, b], (1,), GGMLType.I64)
    return case


def argmax(ne: tuple[int, ...]) -> Case:
    case = Case()
    x = case.leaf(ne)
    case.node(Op.ARGMAX, [x], (x.ne[1],), GGMLType.I32)
    return case


def argmax_of_ties() -> Case:
    case = Case()
    x = case.leaf(np.array([[1, 3, 2, 3, 0], [-1, -1, -1, -1, -1]], np.float32))
    case.node(Op.ARGMAX, [x], (2,), GGMLType.I32)
    return case
