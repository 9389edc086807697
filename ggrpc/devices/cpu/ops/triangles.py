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
    """A diagonal matrix for each row."""
    x, y = c.view(node.source(A)), c.view(node.tensor)
    c.step(y.fill, 0)
    c.step(np.copyto, np.einsum("abii->abi", y), x[:, :, 0])


@kernel(Op.DIAG_MASK_INF, Op.DIAG_MASK_ZERO)
def diag_mask(node: Node, c: Compiler) -> None:
    """Elements above the diagonal, shifted right by n_past, become -inf or 0."""
    value = -np.inf if node.tensor.op == Op.DIAG_MASK_INF else 0.0
    _masked(node, c, node.params.n_past + 1, True, value)


@kernel(Op.TRI)
def tri(node: Node, c: Compiler) -> None:
    """Elements outside of the triangle become 0."""
    diagonal, above = CLEARED[Triangle(node.params.type)]
    _masked(node, c, diagonal, above, 0.0)


def _masked(node: Node, c: Compiler, diagonal: int, above: bool, value: float) -> None:
    """Append a copy in which a diagonal and all elements on one side are replaced."""
    x, y = c.view(node.source(A)), c.view(node.tensor)
    rows, columns = np.ogrid[: y.shape[2], : y.shape[3]]
    offset = columns - rows
    replaced = offset >= diagonal if above else offset <= diagonal
    c.convert(cast, x, y)
    c.step(partial(np.copyto, y, np.float32(value), where=replaced))


@kernel(Op.SOLVE_TRI)
def solve_tri(node: Node, c: Compiler) -> None:
    """The solution y of a y = b for a lower triangular a."""
    a, b = c.view(node.source(A)), c.view(node.source(B))
    c.step(_solve_tri, a, b, c.view(node.tensor))


def _solve_tri(a: Array, b: Array, y: Array) -> None:
    """Forward substitution, for all matrices at once."""
    for i in range(a.shape[-1]):
        known = a[..., i : i + 1, :i] @ y[..., :i, :]
        np.subtract(b[..., i : i + 1, :], known, known)
        np.divide(known, a[..., i : i + 1, i : i + 1], y[..., i : i + 1, :])
