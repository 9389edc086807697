"""CONT, CPY, DUP, GET_ROWS, SET_ROWS, CONCAT, REPEAT, ROLL in numpy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import PACKS, can_write, kernel
from ggrpc.devices.cpu.ops.broadcast import repeated, reshaped
from ggrpc.devices.cpu.ops.indices import index_check
from ggrpc.formats.codecs import CODECS, DTYPES, Array, Convert, boxes, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.copies import ROW_IDS, ROWS, A, B
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

# Elements of rows to gather at a time, to limit the memory that numpy allocates.
GATHER_SIZE = 1 << 22
# Types that numpy can cast to each other.
NUMBERS = frozenset(DTYPES) - {GGMLType.BF16}


def _accepts_copy(node: Node) -> bool:
    kinds = {node.source(A).type, node.tensor.type}
    return len(kinds) == 1 or (
        can_write(node) and (kinds <= NUMBERS or kinds <= CODECS.keys())
    )


def _moves_bytes(node: Node) -> bool:
    """True: the contract requires equal types, so blocks are copied as bytes."""
    return True


@kernel(Op.CONT, Op.CPY, Op.DUP, accepts=_accepts_copy)
def copy(node: Node, c: Compiler) -> None:
    """Copy the elements in order; the shapes may differ."""
    source, target = node.source(A), node.tensor
    if source.type == target.type or {source.type, target.type} <= NUMBERS:
        x, y = c.view(source), c.view(target)
    else:
        x, y = c.f32(source), c.result(target)
    if x.shape == y.shape:
        c.convert(cast, x, y)
    elif (view := reshaped(y, x.shape)) is not None:
        c.convert(cast, x, view)
    elif (view := reshaped(x, y.shape)) is not None:
        c.convert(cast, view, y)
    else:
        between = c.scratch(x.shape, x.dtype)
        c.convert(cast, x, between)
        c.convert(cast, between.reshape(y.shape), y)


@kernel(Op.REPEAT, accepts=_moves_bytes)
def repeat(node: Node, c: Compiler) -> None:
    x, y = repeated(c.view(node.source(A)), c.view(node.tensor))
    c.convert(cast, np.broadcast_to(x, y.shape), y)


@kernel(Op.CONCAT, accepts=_moves_bytes)
def concat(node: Node, c: Compiler) -> None:
    a, b, y = c.view(node.source(A)), c.view(node.source(B)), c.view(node.tensor)
    axis = 3 - node.params.dim
    first, second = np.split(y, [a.shape[axis]], axis)
    c.convert(cast, a, first)
    c.convert(cast, b, second)


@kernel(Op.ROLL)
def roll(node: Node, c: Compiler) -> None:
    """y[i] = x[(i - shift) % n] in each dimension."""
    x, y = c.view(node.source(A)), c.view(node.tensor)
    shifts = [shift % n for shift, n in zip(node.params[::-1], x.shape, strict=True)]
    for parts in product(*map(_rolled, shifts)):
        source, target = zip(*parts, strict=True)
        c.convert(cast, x[source], y[target])


def _rolled(shift: int) -> list[tuple[slice, slice]]:
    """The source and target slices of an axis: the whole axis, or its two parts."""
    if not shift:
        return [(slice(None), slice(None))]
    return [
        (slice(None, -shift), slice(shift, None)),
        (slice(-shift, None), slice(None, shift)),
    ]


@kernel(Op.GET_ROWS)
def get_rows(node: Node, c: Compiler) -> None:
    """y[i3, i2, i1] = a[i3, i2, b[i3, i2, i1]]."""
    a, b = node.source(A), node.source(B)
    check = index_check(node, b, a.ne[1])
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
    for some in boxes(ids.shape, max(1, GATHER_SIZE // rows.shape[-1])):
        unpack(rows[ids[some]], y[some])


def _get_rows_of_each(
    check: Callable[[Array], None], unpack: Convert, rows: Array, ids: Array, y: Array
) -> None:
    check(ids)
    for some in boxes(ids.shape, max(1, GATHER_SIZE // rows.shape[-1])):
        i3, i2, _ = np.ogrid[some[0], some[1], :1]
        unpack(rows[i3, i2, ids[some]], y[some])


@kernel(Op.SET_ROWS)
def set_rows(node: Node, c: Compiler) -> None:
    """y[i3, i2, c[i3 % n3, i2 % n2, i1]] = b[i3, i2, i1]; other rows do not change."""
    source, index = node.source(ROWS), node.source(ROW_IDS)
    check = index_check(node, index, node.tensor.ne[1])
    x, ids, y = _ready_rows(source, node, c), c.view(index)[0], c.view(node.tensor)
    if x.shape[-1] == 1:  # numpy is much faster for elements than for rows of one
        x, y = x[..., 0], y[..., 0]
    if x.shape[:2] == (1, 1):
        c.step(_set_rows, check, x[0, 0], ids[0, 0], y[0, 0])
    else:
        c.step(_set_rows_of_each, check, x, ids, y)


def _ready_rows(source: Tensor, node: Node, c: Compiler) -> Array:
    """The rows in the type of the result, or in one that numpy casts to it."""
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
