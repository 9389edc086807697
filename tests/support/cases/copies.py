"""Cases of CONT, CPY, DUP, GET_ROWS, SET_ROWS, CONCAT, REPEAT, ROLL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ggrpc.formats.codecs import CODECS
from ggrpc.op import Op
from ggrpc.ops.copies import ConcatParams, RollParams
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.case import Array, Case

F32, F16, BF16 = GGMLType.F32, GGMLType.F16, GGMLType.BF16
I32, I64, Q8_0 = GGMLType.I32, GGMLType.I64, GGMLType.Q8_0

# What llama.cpp keeps keys and values in.
CACHE_TYPES = (
    F32,
    F16,
    BF16,
    Q8_0,
    GGMLType.Q4_0,
    GGMLType.Q4_1,
    GGMLType.Q5_0,
    GGMLType.Q5_1,
)
# Which ggml does not read; it writes the latter two.
UNREAD = (GGMLType.F64, GGMLType.Q8_1, GGMLType.Q8_K)
ROW_TYPES = tuple(t for t in CODECS if t not in UNREAD)


def cases() -> Iterator[tuple[str, Case]]:
    yield from copy_cases()
    yield from get_rows_cases()
    yield from set_rows_cases()
    yield from concat_cases()
    yield from repeat_cases()
    yield from roll_cases()


def copy_cases() -> Iterator[tuple[str, Case]]:
    for type in CACHE_TYPES:
        yield f"CPY-F32-{type.name}", cpy(F32, type)
    for type in (F16, BF16, Q8_0, GGMLType.Q4_0):
        yield f"CPY-{type.name}-F32", cpy(type, F32)
        yield f"CPY-{type.name}-{type.name}", cpy(type, type)
    yield "CPY-F16-BF16", cpy(F16, BF16)
    yield "CPY-BF16-F16", cpy(BF16, F16)
    yield "CPY-F32-I32", cpy(F32, I32)
    yield "CPY-I32-F32", copy_of_ints()
    yield "CPY-large", cpy(F32, F16, (512, 300))
    yield "CPY-into_a_cache", into_cache()
    yield "CPY-other_shapes", other_shapes()
    for op in (Op.CONT, Op.DUP):
        for type in (F32, F16, BF16):
            yield f"{op.name}-permuted-{type.name}", permuted(op, type)
    yield "CONT-reshaped", reshaped()
    yield "CONT-large", permuted(Op.CONT, F32, (64, 50, 60))


def cpy(source: GGMLType, target: GGMLType, ne: Sequence[int] = (64, 5, 3)) -> Case:
    case = Case()
    x = case.leaf(ne, source)
    y = case.leaf(np.zeros(tuple(ne)[::-1]), target)
    case.node(Op.CPY, [x, y], y.ne, target, inplace_over=y)
    return case


def copy_of_ints() -> Case:
    case = Case()
    x = case.leaf(np.arange(-30, 30).reshape(3, 20), I32)
    y = case.leaf((20, 3))
    case.node(Op.CPY, [x, y], y.ne, inplace_over=y)
    return case


def into_cache() -> Case:
    """Values of some tokens, transposed, into a part of a cache."""
    case = Case()
    x, cache = case.leaf((32, 6)), case.leaf((64, 32), F16)
    rows = case.permute(x, 1, 0, 2, 3)
    part = case.view(cache, (6, 32), (2, 128), offset=20)
    case.node(Op.CPY, [rows, part], part.ne, F16, inplace_over=part)
    return case


def other_shapes() -> Case:
    """Elements keep their order, though neither side is contiguous."""
    case = Case()
    x = case.permute(case.leaf((6, 4, 5)), 1, 0, 2, 3)
    wide = case.leaf((40, 12))
    y = case.view(wide, (10, 12), (4, 160), offset=8)
    case.node(Op.CPY, [x, y], y.ne, inplace_over=y)
    return case


def permuted(op: Op, type: GGMLType, ne: Sequence[int] = (7, 5, 3)) -> Case:
    case = Case()
    x = case.permute(case.leaf(ne, type), 0, 2, 1, 3)
    x = case.permute(x, 1, 0, 2, 3)
    case.node(op, [x], x.ne, type)
    return case


def reshaped() -> Case:
    case = Case()
    x = case.permute(case.leaf((8, 6, 5)), 0, 2, 1, 3)
    case.node(Op.CONT, [x], (48, 5))
    return case


def get_rows_cases() -> Iterator[tuple[str, Case]]:
    for type in ROW_TYPES:
        yield f"GET_ROWS-{type.name}", get_rows(type)
    yield "GET_ROWS-I32", get_rows_of_ints()
    yield "GET_ROWS-one", get_rows(F16, ids=np.array([11]))
    yield "GET_ROWS-of_each", get_rows(Q8_0, (32, 9, 3, 2), ids((2, 3, 4), 9))
    yield "GET_ROWS-gaps", get_rows_with_gaps()


def ids(shape: tuple[int, ...], rows: int) -> Array:
    return np.random.default_rng(4).integers(0, rows, shape)


def get_rows(
    type: GGMLType,
    ne: Sequence[int] = (256, 12),
    ids: Array | None = None,
) -> Case:
    case = Case()
    a = case.leaf(ne, type)
    b = case.leaf(np.array([3, 0, 11, 3]) if ids is None else ids, I32)
    case.node(Op.GET_ROWS, [a, b], (a.ne[0], *b.ne[:3]))
    return case


def get_rows_of_ints() -> Case:
    case = Case()
    a = case.leaf(np.arange(40).reshape(8, 5), I32)
    b = case.leaf(np.array([7, 1]), I32)
    case.node(Op.GET_ROWS, [a, b], (5, 2), I32)
    return case


def get_rows_with_gaps() -> Case:
    case = Case()
    wide, many = case.leaf((64, 9)), case.leaf(ids((5, 4), 9), I32)
    a = case.view(wide, (20, 9), (4, 256), offset=16)
    b = case.view(many, (3,), (4,), offset=4)
    case.node(Op.GET_ROWS, [a, b], (20, 3))
    return case


def set_rows_cases() -> Iterator[tuple[str, Case]]:
    for type in CACHE_TYPES:
        yield f"SET_ROWS-F32-{type.name}", set_rows(type)
    yield "SET_ROWS-F16-F16", set_rows(F16, source=F16)
    yield "SET_ROWS-F16-F32", set_rows(F32, source=F16)
    yield "SET_ROWS-F32-I32", set_rows(I32)
    yield "SET_ROWS-F16-I32", set_rows(I32, source=F16)
    yield "SET_ROWS-I32", set_rows(F16, index=I32)
    yield "SET_ROWS-one", set_rows(F16, (64, 1), (64, 9), np.array([8]))
    yield (
        "SET_ROWS-elements",
        set_rows(
            F16, (1, 30), (1, 100), np.random.default_rng(5).permutation(100)[:30]
        ),
    )
    yield (
        "SET_ROWS-of_each",
        set_rows(
            Q8_0, (32, 3, 4, 2), (32, 9, 4, 2), np.array([[[1, 0, 8], [7, 3, 2]]])
        ),
    )
    yield "SET_ROWS-before_2025_09", set_rows(F16, with_target=False)


def set_rows(
    type: GGMLType,
    rows: Sequence[int] = (64, 3),
    ne: Sequence[int] = (64, 9),
    ids: Array | None = None,
    source: GGMLType = F32,
    index: GGMLType = I64,
    with_target: bool = True,
) -> Case:
    case = Case()
    b = case.leaf(rows, source)
    c = case.leaf(np.array([4, 0, 7]) if ids is None else ids, index)
    a = case.leaf(np.random.default_rng(6).standard_normal(tuple(ne)[::-1]), type)
    sources: list[Tensor | None] = [b, c, a if with_target else None]
    case.node(Op.SET_ROWS, sources, a.ne, type, inplace_over=a)
    return case


def concat_cases() -> Iterator[tuple[str, Case]]:
    for dim in range(4):
        for type in (F32, F16, I32):
            yield f"CONCAT-{dim}-{type.name}", concat(dim, type, (6, 5, 3, 2), 4)
    for dim in (0, 1):
        yield f"CONCAT-{dim}-Q8_0", concat(dim, Q8_0, (64, 5), 32)
    yield "CONCAT-large", concat(1, F32, (512, 300), 7)


def concat(dim: int, type: GGMLType, ne: Sequence[int], more: int) -> Case:
    case = Case()
    other, result = list(ne), list(ne)
    other[dim], result[dim] = more, ne[dim] + more
    a, b = (
        case.leaf(np.arange(np.prod(n)).reshape(n[::-1]), type)
        for n in (tuple(ne), tuple(other))
    )
    case.node(Op.CONCAT, [a, b], result, type, ConcatParams(dim))
    return case


def repeat_cases() -> Iterator[tuple[str, Case]]:
    for type in (F32, F16, BF16):
        yield f"REPEAT-{type.name}", repeat(type, (5, 3, 2), (10, 3, 6, 2))
    yield "REPEAT-row", repeat(F32, (64, 1), (64, 9))
    yield "REPEAT-large", repeat(F32, (64, 5), (256, 300, 2))


def repeat(type: GGMLType, ne: Sequence[int], result: Sequence[int]) -> Case:
    case = Case()
    x = case.leaf(ne, type)
    case.node(Op.REPEAT, [x], result, type)
    return case


def roll_cases() -> Iterator[tuple[str, Case]]:
    for shifts in ((3, 0, 0, 0), (-2, 4, 0, -1), (1, -1, 2, 1), (0, 0, 0, 0)):
        case = Case()
        x = case.leaf((7, 5, 3, 2))
        case.node(Op.ROLL, [x], x.ne, params=RollParams(*shifts))
        yield f"ROLL-{shifts}", case
    case = Case()
    x = case.permute(case.leaf((7, 5, 3)), 0, 2, 1, 3)
    case.node(Op.ROLL, [x], x.ne, params=RollParams(2, 1, -3, 0))
    yield "ROLL-permuted", case
