"""Cases of SUM_ROWS, ARGMAX, ARGSORT."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.reductions import ArgsortParams, SortOrder
from ggrpc.types import GGMLType
from tests.support.case import Array, Case


def cases() -> Iterator[tuple[str, Case]]:
    for name, ne in {"odd": (67, 5, 3, 2), "large": (700, 200)}.items():
        case = Case()
        x = case.leaf(ne)
        case.node(Op.SUM_ROWS, [x], (1, *x.ne[1:]))
        yield f"SUM_ROWS-{name}", case
    yield "SUM_ROWS-gaps", sum_of_gaps()
    for name, ne in {"one": (500,), "many": (129, 17)}.items():
        yield f"ARGMAX-{name}", argmax(ne)
    yield "ARGMAX-ties", argmax_of_ties()
    for order in SortOrder:
        for name, ne in {"odd": (67, 5, 3), "large": (700, 200)}.items():
            case = Case()
            x = case.leaf(shuffled(ne))
            case.node(Op.ARGSORT, [x], x.ne, GGMLType.I32, ArgsortParams(order))
            yield f"ARGSORT-{order.name}-{name}", case


def shuffled(ne: tuple[int, ...]) -> Array:
    """Rows without equal values, whose order ggml leaves open."""
    rows = np.broadcast_to(np.arange(ne[0], dtype=np.float32), ne[::-1])
    return np.random.default_rng(9).permuted(rows, axis=-1)


def sum_of_gaps() -> Case:
    case = Case()
    wide = case.leaf((64, 6, 5))
    x = case.view(wide, (20, 3, 5), (4, 512, 1536), offset=16)
    case.node(Op.SUM_ROWS, [x], (1, 3, 5))
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
