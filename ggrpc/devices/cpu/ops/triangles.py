"""DIAG, DIAG_MASK_INF, DIAG_MASK_ZERO, TRI, SOLVE_TRI in numpy."""

from __future__ import annotations

from functools import partial

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.formats.codecs import Array, cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.triangles import CLEARED, A, B, Triangle


@kernel(Op.DIAG)
def diag(node: Node, c: Compiler) -> None:
    """The row on the diagonal of a matrix of zeros."""
    x, y = c.view(node.source(A)), c.view(node.tensor)
    c.step(y.fill, 0)
    c.step(np.copyto, np.einsum("abii->abi", y), x[:, :, 0])


@kernel(Op.DIAG_MASK_INF, Op.DIAG_MASK_ZERO)
def diag_mask(node: Node, c: Compiler) -> None:
    """What lies above the diagonal, n_past further right, becomes -inf or 0."""
    value = -np.inf if node.tensor.op == Op.DIAG_MASK_INF else 0.0
    _masked(node, c, node.params.n_past + 1, True, value)


@kernel(Op.TRI)
def tri(node: Node, c: Compiler) -> None:
    """What lies on the other side of the diagonal becomes 0."""
    diagonal, above = CLEARED[Triangle(node.params.type)]
    _masked(node, c, diagonal, above, 0.0)


def _masked(node: Node, c: Compiler, diagonal: int, above: bool, value: float) -> None:
    """Append a copy in which one side of a diagonal, with it, is replaced."""
    x, y = c.view(node.source(A)), c.view(node.tensor)
    rows, columns = np.ogrid[: y.shape[2], : y.shape[3]]
    offset = columns - rows
    goes = offset >= diagonal if above else offset <= diagonal
    c.convert(cast, x, y)
    c.step(partial(np.copyto, y, np.float32(value), where=goes))


@kernel(Op.SOLVE_TRI)
def solve_tri(node: Node, c: Compiler) -> None:
    """Y such that a y = b, for a with nothing above its diagonal."""
    a, b = c.view(node.source(A)), c.view(node.source(B))
    c.step(_solve_tri, a, b, c.view(node.tensor))


def _solve_tri(a: Array, b: Array, y: Array) -> None:
    """Row after row, each from those above it, in all matrices at once."""
    for i in range(a.shape[-1]):
        known = a[..., i : i + 1, :i] @ y[..., :i, :]
        np.subtract(b[..., i : i + 1, :], known, known)
        np.divide(known, a[..., i : i + 1, i : i + 1], y[..., i : i + 1, :])
