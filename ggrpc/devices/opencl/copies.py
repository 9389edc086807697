"""CPY, CONT and DUP among floats; GET_ROWS out of floats and SET_ROWS into them."""

from __future__ import annotations

from ggrpc.devices.opencl.dense import dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

TYPES = (GGMLType.F32, GGMLType.F16)


def _accepts_copy(node: Node) -> bool:
    x, y = node.source(0), node.tensor
    return x.type in TYPES and y.type in TYPES and x.ne == y.ne


@kernel(Op.CPY, Op.CONT, Op.DUP, accepts=_accepts_copy)
def copy(node: Node, c: Compiler) -> None:
    """Append y = x, a work-group a row, with any strides."""
    x, y = node.source(0), node.tensor
    name = c.kernel("copies", "copy", FROM=x.type.name, TO=y.type.name)
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb)


def _accepts_get(node: Node) -> bool:
    return _dense(node.source(0)) and dense_f32(node.tensor)


@kernel(Op.GET_ROWS, accepts=_accepts_get)
def get_rows(node: Node, c: Compiler) -> None:
    """Append y = x[rows], a work-group a row of y."""
    x, rows, y = node.source(0), node.source(1), node.tensor
    name = c.kernel("copies", "get_rows", FROM=x.type.name, TO="F32")
    c.launch(
        name,
        (rows_of(y),),
        *(x, rows, y, y.ne, x.ne, x.nb, rows.nb, y.nb, *c.fault),
    )


def _accepts_rows(node: Node) -> bool:
    return dense_f32(node.source(0)) and _dense(node.tensor)


def _dense(tensor: Tensor) -> bool:
    return tensor.type in TYPES and tensor.nb[0] == tensor.type.type_size


@kernel(Op.SET_ROWS, accepts=_accepts_rows)
def set_rows(node: Node, c: Compiler) -> None:
    """Append y[rows] = x, a work-group a row of x."""
    x, rows, y = node.source(0), node.source(1), node.tensor
    name = c.kernel(
        "copies", "set_rows", FROM="F32", TO=y.type.name, INDEX=rows.type.name
    )
    c.launch(
        name,
        (rows_of(x),),
        *(x, rows, y, x.ne, x.nb, rows.ne, rows.nb, y.ne, y.nb, *c.fault),
    )
