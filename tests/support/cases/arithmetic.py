"""Cases of ADD, ADD1, SUB, MUL, DIV, SCALE, CLAMP, LEAKY_RELU, SQR, SQRT, LOG, ..."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ggrpc.op import Op
from ggrpc.ops.arithmetic import ClampParams, LeakyReluParams, ScaleParams
from ggrpc.types import GGMLType
from tests.support.case import Case

F32, F16, BF16, Q8_0 = GGMLType.F32, GGMLType.F16, GGMLType.BF16, GGMLType.Q8_0

BINARY = (Op.ADD, Op.SUB, Op.MUL, Op.DIV)
SHAPES = {
    "same": ((7, 5, 3, 2), (7, 5, 3, 2)),
    "row": ((65, 9, 2), (65,)),
    "column": ((33, 5), (1, 5)),
    "repeated": ((6, 4, 6, 4), (2, 2, 3, 2)),
    "large": ((517, 300), (517, 1)),
    "large_repeated": ((64, 90, 33), (32, 45, 11)),
}
TYPES = ((F16, F16, F16), (F16, F32, F16), (F16, F32, F32), (BF16, BF16, BF16))

ADD1_TYPES = (
    (F32, F32),
    (F16, F16),
    (F16, F32),
    (BF16, BF16),
    (BF16, F32),
    (Q8_0, F32),
)


def cases() -> Iterator[tuple[str, Case]]:
    for op in BINARY:
        for name, (a, b) in SHAPES.items():
            yield f"{op.name}-{name}", binary(op, a, b)
        for types in TYPES:
            label = "_".join(type.name for type in types)
            yield f"{op.name}-{label}", binary(op, (40, 6), (40, 3), types)
        yield f"{op.name}-in_place", in_place(op)
        yield f"{op.name}-gaps", gaps(op)
    yield "ADD-quantized", binary(Op.ADD, (64, 3), (64, 3), (Q8_0, F32, Q8_0))
    for type in (F32, BF16):
        for bias in (0, 1.5):
            yield (
                f"SCALE-{type.name}-{bias}",
                unary(Op.SCALE, type, ScaleParams(-0.25, bias)),
            )
    for type in (F32, F16):
        yield f"CLAMP-{type.name}", unary(Op.CLAMP, type, ClampParams(-0.5, 1.25))
    for op in (Op.SQR, Op.SQRT, Op.LOG, Op.SIN, Op.COS):
        for type in (F32, F16, BF16):
            yield f"{op.name}-{type.name}", unary(op, type)
    for types in ADD1_TYPES:
        label = "_".join(type.name for type in types)
        yield f"ADD1-{label}", binary(Op.ADD1, (64, 6), (1,), (*types, types[0]))
    for type in (F32, F16):
        yield f"LEAKY_RELU-{type.name}", leaky_relu(type, (45, 7, 3))
    yield "LEAKY_RELU-large", leaky_relu(F32, (512, 300))


def binary(
    op: Op,
    a: Sequence[int],
    b: Sequence[int],
    types: tuple[GGMLType, GGMLType, GGMLType] = (F32, F32, F32),
) -> Case:
    case = Case()
    x = case.leaf(a, types[0])
    y = case.leaf(
        np.abs(np.random.default_rng(1).normal(2, 1, b[::-1])) + 0.1, types[1]
    )
    case.node(op, [x, y], x.ne, types[2])
    return case


def in_place(op: Op) -> Case:
    case = Case()
    x, y = case.leaf((31, 4)), case.leaf((31,))
    case.node(op, [x, y], x.ne, inplace_over=x)
    return case


def gaps(op: Op) -> Case:
    """Rows of a view, plus columns of another."""
    case = Case()
    wide, tall = case.leaf((64, 10)), case.leaf((10, 20))
    x = case.view(wide, (20, 10), (4, 256), offset=16)
    y = case.permute(tall, 1, 0, 2, 3)
    case.node(op, [x, y], x.ne)
    return case


def unary(op: Op, type: GGMLType, params: object = None) -> Case:
    case = Case()
    x = case.leaf(np.abs(case.rng.standard_normal((3, 7, 45))), type)
    case.node(op, [x], x.ne, type, params)
    return case


def leaky_relu(type: GGMLType, ne: Sequence[int]) -> Case:
    case = Case()
    x = case.leaf(ne, type)
    case.node(Op.LEAKY_RELU, [x], x.ne, type, LeakyReluParams(0.1))
    return case
