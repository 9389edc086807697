"""CONT, CPY, DUP, GET_ROWS, SET_ROWS, CONCAT, REPEAT, ROLL: copies of values."""

from __future__ import annotations

from typing import NamedTuple

from ggrpc.op import Op
from ggrpc.ops.contract import Contract, Node, Rule, Source, define, flops_per_element
from ggrpc.ops.rules import (
    ANY,
    F32,
    I32,
    RESULT,
    any_shape,
    equal,
    like,
    multiple,
    repeats,
    same_elements,
    same_type,
)
from ggrpc.tensor import Dims
from ggrpc.types import FLOATS, QUANTIZED, GGMLType

A, B = 0, 1
ROWS, ROW_IDS = 0, 1  # SET_ROWS orders its sources differently from its arguments
INDEX = frozenset({GGMLType.I32, GGMLType.I64})


class ConcatParams(NamedTuple):
    """The dimension to concatenate along."""

    dim: int


class RollParams(NamedTuple):
    """The shift of each dimension, in elements."""

    shift0: int
    shift1: int
    shift2: int
    shift3: int


def _get_rows_ne(node: Node) -> Dims:
    return node.source(A).ne[0], *node.source(B).ne[:3]


def _get_rows_type(node: Node) -> str | None:
    ints = node.source(A).type == GGMLType.I32
    expected = GGMLType.I32 if ints else GGMLType.F32
    if node.tensor.type == expected:
        return None
    return f"the result is {node.tensor.type.name}, must be {expected.name}"


def _set_rows_ne(node: Node) -> Dims:
    rows = node.source(ROWS).ne
    return rows[0], node.tensor.ne[1], rows[2], rows[3]


def _at_most_3d(index: int) -> Rule:
    def rule(node: Node) -> str | None:
        ne = node.source(index).ne
        return None if ne[3] == 1 else f"the indices' ne[3] is {ne[3]}, must be 1"

    return rule


def _concat_dim(node: Node) -> str | None:
    dim = node.params.dim
    return None if 0 <= dim < 4 else f"dim is {dim}, must be 0 to 3"


def _concat_ne(node: Node) -> Dims:
    a, b, dim = node.source(A).ne, node.source(B).ne, node.params.dim
    ne = [x + y if d == dim else x for d, (x, y) in enumerate(zip(a, b, strict=True))]
    return ne[0], ne[1], ne[2], ne[3]


def _concat_fits(node: Node) -> str | None:
    a, b, dim = node.source(A).ne, node.source(B).ne, node.params.dim
    if all(x == y for d, (x, y) in enumerate(zip(a, b, strict=True)) if d != dim):
        return None
    return f"a and b may differ only in dimension {dim}: {list(a)} and {list(b)}"


def _shifts(node: Node) -> str | None:
    shifts, ne = node.params, node.source(A).ne
    if all(abs(shift) < n for shift, n in zip(shifts, ne, strict=True)):
        return None
    return f"the shifts are {list(shifts)}, must be less than a's ne {list(ne)}"


_a = Source("a", ANY)

define(
    Contract(
        Op.DUP,
        (_a,),
        ANY,
        like(A),
        flops=flops_per_element(0),
    ),
    Contract(
        Op.CONT,
        (_a,),
        ANY,
        any_shape,
        rules=(same_elements(A, RESULT),),
        flops=flops_per_element(0),
    ),
    Contract(
        Op.CPY,
        (_a, Source("b", ANY, target=True)),
        ANY,
        like(B),
        rules=(same_elements(A, B), same_type(RESULT, B)),
        flops=flops_per_element(0),
    ),
    Contract(
        Op.GET_ROWS,
        (
            Source("a", FLOATS | QUANTIZED | I32),
            Source("b", I32, index=True),
        ),
        frozenset({GGMLType.F32, GGMLType.I32}),
        _get_rows_ne,
        rules=(
            equal((A, 2), (B, 1)),
            equal((A, 3), (B, 2)),
            _at_most_3d(B),
            _get_rows_type,
        ),
        flops=flops_per_element(0),
    ),
    Contract(
        Op.SET_ROWS,
        (
            Source("b", FLOATS),
            Source("c", INDEX, index=True),
            Source("a", ANY, optional=True, target=True),  # absent before 2025-09
        ),
        FLOATS | QUANTIZED | I32,
        _set_rows_ne,
        rules=(
            equal((ROWS, 1), (ROW_IDS, 0)),
            multiple((ROWS, 2), (ROW_IDS, 1)),
            multiple((ROWS, 3), (ROW_IDS, 2)),
            _at_most_3d(ROW_IDS),
        ),
        flops=flops_per_element(0),
    ),
    Contract(
        Op.CONCAT,
        (_a, Source("b", ANY)),
        ANY,
        _concat_ne,
        ConcatParams,
        (_concat_dim, same_type(A, B), same_type(A, RESULT), _concat_fits),
        flops=flops_per_element(0),
    ),
    Contract(
        Op.REPEAT,
        (_a,),
        ANY,
        any_shape,
        rules=(same_type(A, RESULT), repeats(A, RESULT)),
        flops=flops_per_element(0),
    ),
    Contract(
        Op.ROLL,
        (Source("a", F32),),
        F32,
        like(A),
        RollParams,
        (_shifts,),
        flops=flops_per_element(0),
    ),
)
