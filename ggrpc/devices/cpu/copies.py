"""CONT, CPY, DUP, GET_ROWS, SET_ROWS, CONCAT, REPEAT in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ggrpc.devices.cpu.arrays import CODECS, DTYPES, Array, Convert, cast
from ggrpc.devices.cpu.broadcast import repeated
from ggrpc.devices.cpu.program import PACKS, Compiler, kernel
from ggrpc.errors import GraphError
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.copies import ROW_IDS, ROWS, A, B
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

# Types whose stored values numpy casts into each other.
NUMBERS = frozenset(DTYPES) - {GGMLType.BF16}


def _accepts_copy(node: Node) -> bool:
    kinds = {node.source(A).type, node.tensor.type}
    return len(kinds) == 1 or kinds <= NUMBERS or kinds <= CODECS.keys()


@kernel(Op.CONT, Op.CPY, Op.DUP, accepts=_accepts_copy)
def copy(node: Node, c: Compiler) -> None:
    """The elements in the same order, whatever the shapes are."""
    source, target = node.source(A), node.tensor
    if source.type == target.type or {source.type, target.type} <= NUMBERS:
        x, y = c.view(source), c.view(target)
    else:
        x, y = c.f32(source), c.result(target)
    if x.shape == y.shape:
        c.convert(cast, x, y)
    elif (reshaped := _reshaped(y, x.shape)) is not None:
        c.convert(cast, x, reshaped)
    elif (reshaped := _reshaped(x, y.shape)) is not None:
        c.convert(cast, reshaped, y)
    else:
        between = c.scratch(x.shape, x.dtype)
        c.convert(cast, x, between)
        c.convert(cast, between.reshape(y.shape), y)


def _reshaped(array: Array, shape: tuple[int, ...]) -> Array | None:
    """The same memory in another shape, or None where only a copy would do."""
    reshaped = array.reshape(shape)
    return reshaped if np.may_share_memory(reshaped, array) else None


@kernel(Op.REPEAT)
def repeat(node: Node, c: Compiler) -> None:
    x, y = repeated(c.view(node.source(A)), c.view(node.tensor))
    c.convert(cast, np.broadcast_to(x, y.shape), y)


@kernel(Op.CONCAT)
def concat(node: Node, c: Compiler) -> None:
    a, b, y = c.view(node.source(A)), c.view(node.source(B)), c.view(node.tensor)
    axis = 3 - node.params.dim
    first, second = np.split(y, [a.shape[axis]], axis)
    c.convert(cast, a, first)
    c.convert(cast, b, second)


@kernel(Op.GET_ROWS)
def get_rows(node: Node, c: Compiler) -> None:
    """y[i3, i2, i1] = a[i3, i2, b[i3, i2, i1]]."""
    a, b = node.source(A), node.source(B)
    check = _checker(node, b, a.ne[1])
    rows, ids, y = c.view(a), c.view(b)[0], c.view(node.tensor)
    unpack = cast if a.type in NUMBERS else CODECS[a.type].unpack
    if a.ne[2] == a.ne[3] == 1:
        c.step(_get_rows, check, unpack, rows[0, 0], ids[0, 0], y[0, 0])
    else:
        c.step(_get_rows_of_each, check, unpack, rows, ids, y)


def _get_rows(
    check: Callable[[Array], None], unpack: Convert, rows: Array, ids: Array, y: Array
) -> None:
    check(ids)
    unpack(rows[ids], y)


def _get_rows_of_each(
    check: Callable[[Array], None], unpack: Convert, rows: Array, ids: Array, y: Array
) -> None:
    check(ids)
    i3, i2, _ = np.ogrid[: ids.shape[0], : ids.shape[1], :1]
    unpack(rows[i3, i2, ids], y)


@kernel(Op.SET_ROWS)
def set_rows(node: Node, c: Compiler) -> None:
    """y[i3, i2, c[i3 % n3, i2 % n2, i1]] = b[i3, i2, i1]; other rows stay."""
    source, index = node.source(ROWS), node.source(ROW_IDS)
    check = _checker(node, index, node.tensor.ne[1])
    x, ids, y = _ready_rows(source, node, c), c.view(index)[0], c.view(node.tensor)
    if x.shape[-1] == 1:  # numpy is much faster at elements than at rows of one
        x, y = x[..., 0], y[..., 0]
    if x.shape[:2] == (1, 1):
        c.step(_set_rows, check, x[0, 0], ids[0, 0], y[0, 0])
    else:
        c.step(_set_rows_of_each, check, x, ids, y)


def _ready_rows(source: Tensor, node: Node, c: Compiler) -> Array:
    """The rows as the result holds them, or as numpy casts them."""
    target = node.tensor.type
    if {source.type, target} <= NUMBERS:
        return c.view(source)
    x = c.f32(source)
    if target in NUMBERS:
        return x
    packed = c.scratch((*x.shape[:-1], c.view(node.tensor).shape[-1]), _stored(target))
    c.convert(PACKS[target], x, packed)
    return packed


def _stored(type: GGMLType) -> np.dtype[Any]:
    return DTYPES.get(type, np.dtype(np.uint8))


def _set_rows(check: Callable[[Array], None], x: Array, ids: Array, y: Array) -> None:
    check(ids)
    y[ids] = x


def _set_rows_of_each(
    check: Callable[[Array], None], x: Array, ids: Array, y: Array
) -> None:
    check(ids)
    i3, i2, i1 = np.ogrid[: x.shape[0], : x.shape[1], : x.shape[2]]
    y[i3, i2, ids[i3 % ids.shape[0], i2 % ids.shape[1], i1]] = x


def _checker(node: Node, index: Tensor, rows: int) -> Callable[[Array], None]:
    """What refuses indices that name no row; numpy would count negative ones back.

    Raises (when called):
        GraphError: naming the node, the index and the number of rows.
    """
    unsigned = np.dtype(f"<u{index.type.type_size}")

    def check(ids: Array) -> None:
        seen = ids.view(unsigned)  # in which a negative index is a huge one
        largest = seen.item() if seen.size == 1 else seen.max()
        if largest >= rows:
            wrong = ids[seen >= rows].flat[0]
            raise GraphError(f"{node.tensor}: there is no row {wrong} of {rows}")

    return check
