"""DIAG, DIAG_MASK_INF, DIAG_MASK_ZERO, TRI and SOLVE_TRI."""

from __future__ import annotations

import math

from ggrpc.devices.opencl.ops.predicates import all_dense_f32, disjoint, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.triangles import CLEARED, A, B, Triangle


@kernel(Op.DIAG_MASK_INF, Op.DIAG_MASK_ZERO, accepts=all_dense_f32)
def diag_mask(node: Node, c: Compiler) -> None:
    """Append a copy with -inf or 0 above the diagonal, n_past further right."""
    value = -math.inf if node.tensor.op is Op.DIAG_MASK_INF else 0.0
    _masked(node, c, node.params.n_past + 1, True, value)


@kernel(Op.TRI, accepts=all_dense_f32)
def tri(node: Node, c: Compiler) -> None:
    """Append a copy with 0 on the other side of the diagonal."""
    _masked(node, c, *CLEARED[Triangle(node.params.type)], 0.0)


def _masked(node: Node, c: Compiler, diagonal: int, above: bool, value: float) -> None:
    """A work-group a row."""
    x, y = node.source(A), node.tensor
    name = c.kernel("triangles", "masked")
    where = diagonal, int(above), value
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb, *where)


def _accepts_apart(node: Node) -> bool:
    sources = filter(None, node.src)
    return all_dense_f32(node) and all(disjoint(x, node.tensor) for x in sources)


@kernel(Op.DIAG, accepts=_accepts_apart)
def diag(node: Node, c: Compiler) -> None:
    """Append the matrix, a work-group a row."""
    x, y = node.source(A), node.tensor
    c.launch(c.kernel("triangles", "diag"), (rows_of(y),), x, y, y.ne, x.nb, y.nb)


@kernel(Op.SOLVE_TRI, accepts=_accepts_apart)
def solve_tri(node: Node, c: Compiler) -> None:
    """Append y such that a y = b, a work-item for each column."""
    a, b, y = node.source(A), node.source(B), node.tensor
    groups = c.traits.groups(y.ne[0] * y.ne[2] * y.ne[3])
    name = c.kernel("triangles", "solve_tri")
    c.launch(name, (groups,), a, b, y, y.ne, a.nb, b.nb, y.nb)
