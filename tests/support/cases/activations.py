"""Cases of UNARY and GLU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ggrpc.op import GluOp, Op, UnaryOp
from ggrpc.ops.activations import GluParams, UnaryParams
from ggrpc.types import GGMLType
from tests.support.case import Array, Case

F32, F16, BF16 = GGMLType.F32, GGMLType.F16, GGMLType.BF16


def cases() -> Iterator[tuple[str, Case]]:
    for op in UnaryOp:
        for type in (F32, F16, BF16):
            yield f"{op.name}-{type.name}", unary(op, type)
        yield f"{op.name}-in_place", unary(op, in_place=True)
        yield f"{op.name}-large", unary(op, shape=(300, 512))
    for op in GluOp:
        yield f"{op.name}-halves", glu(op)
        yield f"{op.name}-swapped", glu(op, swapped=1)
        yield f"{op.name}-split", glu(op, split=True)
        yield f"{op.name}-large", glu(op, shape=(300, 512))
        if op not in (GluOp.SWIGLU_OAI, GluOp.SWIGLU_CLAMP):
            yield f"{op.name}-F16", glu(op, F16)


def values(shape: tuple[int, ...]) -> Array:
    """Numbers over the whole range of the functions, halves and 0 among them."""
    rng = np.random.default_rng(3)
    array = rng.standard_normal(shape, np.float32) * 4
    array.flat[:8] = 0, 0.5, -0.5, 1.5, -2.5, 30, -30, 0.49999997
    return array


def unary(
    op: UnaryOp,
    type: GGMLType = F32,
    shape: tuple[int, ...] = (2, 3, 45),
    in_place: bool = False,
) -> Case:
    case = Case()
    x = case.leaf(values(shape), type)
    params = UnaryParams(op, 0.8, 0.9, 0.5, -1e-6)
    case.node(Op.UNARY, [x], x.ne, type, params, inplace_over=x if in_place else None)
    return case


def glu(
    op: GluOp,
    type: GGMLType = F32,
    shape: tuple[int, ...] = (2, 3, 44),
    swapped: int = 0,
    split: bool = False,
) -> Case:
    case = Case()
    x = case.leaf(values(shape), type)
    b = case.leaf(values(shape)[::-1], type) if split else None
    ne = x.ne if split else (x.ne[0] // 2, *x.ne[1:])
    case.node(Op.GLU, [x, b], ne, type, GluParams(op, swapped, 1.702, 3))
    return case
