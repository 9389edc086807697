"""CPY, CONT, DUP, CONCAT, REPEAT, GET_ROWS and SET_ROWS.

They copy between float types, and between F32 and the types with blocks of 32, which
clients use for KV caches.
"""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.ops.predicates import CACHES, PACKED, rows_of
from ggrpc.devices.opencl.program import Argument, Compiler, fuser, kernel
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.ops import Node, Op
from ggrpc.ops.copies import ROW_IDS, ROWS, A, B
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import FLOATS, GGMLType


def _accepts_copy(node: Node) -> bool:
    alike = _alike(node.source(A), node.tensor)
    return alike is not None and _converts(*alike)


def _converts(x: Tensor, y: Tensor) -> bool:
    """Whether there is a kernel that makes rows of y out of rows of x."""
    if x.type in FLOATS and y.type in FLOATS:
        return True
    packs = x.type is GGMLType.F32 and y.type in PACKED
    unpacks = x.type in CACHES and y.type is GGMLType.F32
    dense = all(t.nb[0] == t.type.type_size for t in (x, y))
    return (packs or unpacks) and dense and x.ne[0] % 32 == 0


def _types(x: Tensor, y: Tensor) -> dict[str, Define]:
    """What the kernels of copies.cl are told."""
    defines: dict[str, Define] = {"FROM": x.type.name, "TO": y.type.name}
    if y.type.is_quantized:
        defines["PACKS"] = 1
    elif x.type.is_quantized:
        defines["UNPACKS"] = 1
    return defines


def _are_floats(node: Node) -> bool:
    return all(t.type in FLOATS for t in (*node.src, node.tensor) if t is not None)


def _alike(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """The same elements with the same ne; None where their strides forbid that."""
    if x.ne == y.ne:
        return x, y
    if y.is_contiguous:
        return x, y._replace(ne=x.ne, nb=contiguous_nb(y.type, x.ne))
    if x.is_contiguous:
        return x._replace(ne=y.ne, nb=contiguous_nb(x.type, y.ne)), y
    return None


@kernel(Op.CPY, Op.CONT, Op.DUP, accepts=_accepts_copy)
def copy(node: Node, c: Compiler) -> None:
    """Append y = x, with any strides."""
    alike = _alike(node.source(A), node.tensor)
    assert alike is not None
    _copy(*alike, c)


def _copy(x: Tensor, y: Tensor, c: Compiler) -> None:
    """A work-group a row."""
    name = c.kernel("copies", "copy", **_types(x, y))
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb)


@kernel(Op.CONCAT, accepts=_are_floats)
def concat(node: Node, c: Compiler) -> None:
    """Append y = a, and b behind it along one dimension."""
    y, at = node.tensor, 0
    for x in (node.source(A), node.source(B)):
        if x.nelements:
            _copy(x, y._replace(ne=x.ne, data=y.data + at * y.nb[node.params.dim]), c)
        at += x.ne[node.params.dim]


@kernel(Op.REPEAT, accepts=_are_floats)
def repeat(node: Node, c: Compiler) -> None:
    """Append y[i] = x[i % ne]."""
    x, y = node.source(A), node.tensor
    name = c.kernel("copies", "repeat", **_types(x, y))
    c.launch(name, (rows_of(y),), x, y, y.ne, x.ne, x.nb, y.nb)


def _accepts_get_rows(node: Node) -> bool:
    return _converts(node.source(A), node.tensor)


@kernel(Op.GET_ROWS, accepts=_accepts_get_rows)
def get_rows(node: Node, c: Compiler) -> None:
    """Append y = x[rows], a work-group a row of y."""
    x, rows, y = node.source(A), node.source(B), node.tensor
    name = c.kernel("copies", "get_rows", **_types(x, y))
    c.launch(name, (rows_of(y),), x, rows, y, y.ne, x.ne, x.nb, rows.nb, y.nb, *c.fault)


def _accepts_rows(node: Node) -> bool:
    return _converts(node.source(ROWS), node.tensor)


@kernel(Op.SET_ROWS, accepts=_accepts_rows)
def set_rows(node: Node, c: Compiler) -> None:
    """Append y[rows] = x, a work-group a row of x."""
    name = c.kernel("copies", "set_rows", **types_set(node))
    c.launch(name, (rows_of(node.source(ROWS)),), *what_is_set(node), *c.fault)


@fuser(Op.SET_ROWS)
def set_two(nodes: Sequence[Node], c: Compiler) -> int:
    """SET_ROWS of keys, and of the values that follow."""
    if len(nodes) < 2 or not sets_alike(*nodes[:2]):
        return 0
    first, second = nodes[:2]
    if not c.can_hoist([first], second):
        return 0
    rows = rows_of(first.source(ROWS)) + rows_of(second.source(ROWS))
    name = c.kernel("copies", "set_rows_two", **types_set(first))
    faults = *c.fault, c.number_of(1)
    c.launch(name, (rows,), *what_is_set(first), *what_is_set(second), *faults)
    return 2


def sets_alike(first: Node, second: Node) -> bool:
    """Whether two nodes are SET_ROWS of the same types, for which there is a kernel."""
    if any(
        n.tensor.op is not Op.SET_ROWS or not _accepts_rows(n) for n in (first, second)
    ):
        return False
    return types_set(first) == types_set(second)


def types_set(node: Node) -> dict[str, Define]:
    """What a kernel that sets the rows of a node is told."""
    types = _types(node.source(ROWS), node.tensor)
    return types | {"INDEX": node.source(ROW_IDS).type.name}


def what_is_set(node: Node) -> tuple[Argument, ...]:
    """What such a kernel is given: see SET of set_row.h."""
    x, rows, y = node.source(ROWS), node.source(ROW_IDS), node.tensor
    return x, rows, y, x.ne, x.nb, rows.ne, rows.nb, y.ne, y.nb
