"""Cases of ACC and SET."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.patches import PatchParams
from ggrpc.types import GGMLType
from tests.support.case import Case


def cases() -> Iterator[tuple[str, Case]]:
    for op in (Op.ACC, Op.SET):
        for inplace in (0, 1):
            yield f"{op.name}-{inplace}", patch(op, GGMLType.F32, inplace)
    yield "SET-I32", patch(Op.SET, GGMLType.I32, 0)
    yield "SET-row", set_row()


def patch(op: Op, type: GGMLType, inplace: int) -> Case:
    case = Case()
    a, b = (
        case.leaf(case.rng.integers(-9, 9, ne[::-1]), type)
        for ne in ((12, 9, 4, 2), (5, 3, 2, 2))
    )
    params = PatchParams(*a.nb[1:], 4 * 3 + a.nb[1] * 2, inplace)
    case.node(op, [a, b], a.ne, type, params, inplace_over=a if inplace else None)
    return case


def set_row() -> Case:
    """A vector into a matrix, as ggml_set_1d has it: the strides are of no use."""
    case = Case()
    a, b = case.leaf((12, 9)), case.leaf(np.arange(12.0))
    case.node(Op.SET, [a, b], a.ne, params=PatchParams(*a.nb[1:], 4 * 24, 0))
    return case
