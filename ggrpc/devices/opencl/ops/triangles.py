"""Launches for DIAG, DIAG_MASK_INF, DIAG_MASK_ZERO, TRI and SOLVE_TRI."""

from __future__ import annotations

import math

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.triangles import CLEARED, A, B, Triangle


@kernel(Op.DIAG_MASK_INF, Op.DIAG_MASK_ZERO, accepts=all_dense_f32)
def diag_mask(node: Node, c: Compiler) -> None:
    """Append a copy with -inf or 0 above the diagonal that is n_past to the right."""
    value = -math.inf if node.tensor.op is Op.DIAG_MASK_INF else 0.0
    _mask(node, c, node.params.n_past + 1, True, value)


@kernel(Op.TRI, accepts=all_dense_f32)
def tri(node: Node, c: Compiler) -> None:
    """Append a copy with 0 outside of a triangle."""
    _mask(node, c, *CLEARED[Triangle(node.params.type)], 0.0)


def _mask(node: Node, c: Compiler, diagonal: int, above: bool, value: float) -> None:
    """Append a copy with a value above or below a diagonal, one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("triangles", "mask")
    parameters = diagonal, int(above), value
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.nb, y.nb, *parameters)


def _accepts_disjoint(node: Node) -> bool:
    sources = filter(None, node.src)
    return all_dense_f32(node) and all(disjoint(x, node.tensor) for x in sources)


@kernel(Op.DIAG, accepts=_accepts_disjoint)
def diag(node: Node, c: Compiler) -> None:
    """Append the diagonal matrix, one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("triangles", "diag")
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.nb, y.nb)


@kernel(Op.SOLVE_TRI, accepts=_accepts_disjoint)
def solve_tri(node: Node, c: Compiler) -> None:
    """Append the y with a y = b, one work-item per column."""
    a, b, y = node.source(A), node.source(B), node.tensor
    groups = c.traits.groups(y.ne[0] * y.ne[2] * y.ne[3])
    kernel = c.kernel("triangles", "solve_tri")
    c.launch(kernel, (groups,), a, b, y, y.ne, a.nb, b.nb, y.nb)
