"""Launches for CPY, CONT, DUP, CONCAT, REPEAT, GET_ROWS and SET_ROWS.

The kernels convert between float types, and between F32 and types with blocks of 32
elements, which clients use for KV caches.
"""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Argument, Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import CACHE_TYPES, PACKED_TYPES
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.ops import Node, Op
from ggrpc.ops.copies import ROW_IDS, ROWS, A, B
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import FLOATS, GGMLType


def _can_convert(x: Tensor, y: Tensor) -> bool:
    """Whether the kernels can convert rows of x to rows of y."""
    if x.type in FLOATS and y.type in FLOATS:
        return True
    packs = x.type is GGMLType.F32 and y.type in PACKED_TYPES
    unpacks = x.type in CACHE_TYPES and y.type is GGMLType.F32
    dense = all(t.nb[0] == t.type.type_size for t in (x, y))
    return (packs or unpacks) and dense and x.ne[0] % 32 == 0


def _type_defines(x: Tensor, y: Tensor) -> dict[str, Define]:
    """The defines of copies.cl for a conversion of x to y."""
    defines: dict[str, Define] = {"FROM": x.type.name, "TO": y.type.name}
    if y.type.is_quantized:
        defines["PACKS"] = 1
    elif x.type.is_quantized:
        defines["UNPACKS"] = 1
    return defines


def _all_floats(node: Node) -> bool:
    return all(t.type in FLOATS for t in (*node.src, node.tensor) if t is not None)


def _with_equal_ne(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Reshape x or y to the ne of the other; None if neither is contiguous."""
    if x.ne == y.ne:
        return x, y
    if y.is_contiguous:
        return x, y._replace(ne=x.ne, nb=contiguous_nb(y.type, x.ne))
    if x.is_contiguous:
        return x._replace(ne=y.ne, nb=contiguous_nb(x.type, y.ne)), y
    return None


def _accepts_copy(node: Node) -> bool:
    reshaped = _with_equal_ne(node.source(A), node.tensor)
    return reshaped is not None and _can_convert(*reshaped)


@kernel(Op.CPY, Op.CONT, Op.DUP, accepts=_accepts_copy)
def copy(node: Node, c: Compiler) -> None:
    """Append y = x, with any strides."""
    reshaped = _with_equal_ne(node.source(A), node.tensor)
    assert reshaped is not None
    _copy(*reshaped, c)


def _copy(x: Tensor, y: Tensor, c: Compiler) -> None:
    """Append y = x for tensors of equal ne, one work-group per row."""
    kernel = c.kernel("copies", "copy", **_type_defines(x, y))
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.nb, y.nb)


@kernel(Op.CONCAT, accepts=_all_floats)
def concat(node: Node, c: Compiler) -> None:
    """Append y = a followed by b along one dimension, with one copy for each."""
    y, at = node.tensor, 0
    for x in (node.source(A), node.source(B)):
        if x.nelements:
            _copy(x, y._replace(ne=x.ne, data=y.data + at * y.nb[node.params.dim]), c)
        at += x.ne[node.params.dim]


@kernel(Op.REPEAT, accepts=_all_floats)
def repeat(node: Node, c: Compiler) -> None:
    """Append y[i] = x[i % ne], one work-group per row of y."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("copies", "repeat", **_type_defines(x, y))
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.ne, x.nb, y.nb)


def _accepts_get_rows(node: Node) -> bool:
    return _can_convert(node.source(A), node.tensor)


@kernel(Op.GET_ROWS, accepts=_accepts_get_rows)
def get_rows(node: Node, c: Compiler) -> None:
    """Append y = x[ids], one work-group per row of y."""
    x, ids, y = node.source(A), node.source(B), node.tensor
    kernel = c.kernel("copies", "get_rows", **_type_defines(x, y))
    layouts = y.ne, x.ne, x.nb, ids.nb, y.nb
    c.launch(kernel, (y.nrows,), x, ids, y, *layouts, *c.fault)


def _accepts_set_rows(node: Node) -> bool:
    return _can_convert(node.source(ROWS), node.tensor)


@kernel(Op.SET_ROWS, accepts=_accepts_set_rows)
def set_rows(node: Node, c: Compiler) -> None:
    """Append y[ids] = x, one work-group per row of x."""
    kernel = c.kernel("copies", "set_rows", **set_rows_defines(node))
    rows = node.source(ROWS).nrows
    c.launch(kernel, (rows,), *set_rows_arguments(node), *c.fault)


def share_set_rows(first: Node, second: Node) -> bool:
    """Whether both nodes are SET_ROWS, computed by a kernel with the same defines."""
    return all(
        node.tensor.op is Op.SET_ROWS and _accepts_set_rows(node)
        for node in (first, second)
    ) and set_rows_defines(first) == set_rows_defines(second)


def set_rows_defines(node: Node) -> dict[str, Define]:
    """The defines of a kernel that includes set_row.h, for the types of a node."""
    types = _type_defines(node.source(ROWS), node.tensor)
    return types | {"INDEX": node.source(ROW_IDS).type.name}


def set_rows_arguments(node: Node) -> tuple[Argument, ...]:
    """The arguments that the macro SET of set_row.h declares."""
    x, ids, y = node.source(ROWS), node.source(ROW_IDS), node.tensor
    return x, ids, y, x.ne, x.nb, ids.ne, ids.nb, y.ne, y.nb
