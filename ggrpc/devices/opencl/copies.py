"""CPY, CONT, DUP, CONCAT, REPEAT, GET_ROWS and SET_ROWS, all of them among floats."""

from __future__ import annotations

from ggrpc.devices.opencl.dense import dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.copies import ROW_IDS, ROWS, A, B
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

TYPES = (GGMLType.F32, GGMLType.F16)


def _accepts_copy(node: Node) -> bool:
    return _are_floats(node) and _alike(node.source(A), node.tensor) is not None


def _are_floats(node: Node) -> bool:
    return all(t.type in TYPES for t in (*node.src, node.tensor) if t is not None)


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
    name = c.kernel("copies", "copy", FROM=x.type.name, TO=y.type.name)
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
    name = c.kernel("copies", "repeat", FROM=x.type.name, TO=y.type.name)
    c.launch(name, (rows_of(y),), x, y, y.ne, x.ne, x.nb, y.nb)


def _accepts_get_rows(node: Node) -> bool:
    return node.source(A).type in TYPES


@kernel(Op.GET_ROWS, accepts=_accepts_get_rows)
def get_rows(node: Node, c: Compiler) -> None:
    """Append y = x[rows], a work-group a row of y."""
    x, rows, y = node.source(A), node.source(B), node.tensor
    name = c.kernel("copies", "get_rows", FROM=x.type.name, TO="F32")
    c.launch(name, (rows_of(y),), x, rows, y, y.ne, x.ne, x.nb, rows.nb, y.nb, *c.fault)


def _accepts_rows(node: Node) -> bool:
    return dense_f32(node.source(ROWS)) and _dense(node.tensor)


def _dense(tensor: Tensor) -> bool:
    return tensor.type in TYPES and tensor.nb[0] == tensor.type.type_size


@kernel(Op.SET_ROWS, accepts=_accepts_rows)
def set_rows(node: Node, c: Compiler) -> None:
    """Append y[rows] = x, a work-group a row of x."""
    x, rows, y = node.source(ROWS), node.source(ROW_IDS), node.tensor
    name = c.kernel(
        "copies", "set_rows", FROM="F32", TO=y.type.name, INDEX=rows.type.name
    )
    c.launch(
        name,
        (rows_of(x),),
        *(x, rows, y, x.ne, x.nb, rows.ne, rows.nb, y.ne, y.nb, *c.fault),
    )
