"""Launches for MUL_MAT and MUL_MAT_ID on GPUs; matrices are unpacked to float32.

With few rows of b, a matrix is unpacked as it is read; with many, tile by tile in local
memory.
"""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import GPU, kernel
from ggrpc.devices.opencl.ops import experts, matmul
from ggrpc.devices.opencl.runtime.build import KernelKey
from ggrpc.devices.opencl.runtime.launch_config import MAX_MATVEC_TOKENS
from ggrpc.ops import Node, Op
from ggrpc.ops.experts import AS, IDS
from ggrpc.ops.experts import B as ROWS
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor

MAX_UNSORTED_ROWS = 4  # per expert, on average; sorting would take longer


@kernel(Op.MUL_MAT, accepts=matmul.accepts, on=GPU)
def mul_mat(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k]."""
    a, b, y = node.source(A), node.source(B), node.tensor
    matrices = a.ne[2] * a.ne[3]
    tokens = b.nrows // matrices
    tensors = a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb
    if tokens <= MAX_MATVEC_TOKENS:
        kernel, rows, items = _matvec(c, a, "matvec", 1 << (tokens - 1).bit_length())
        c.launch(kernel, (-(-a.ne[1] // rows), 1, matrices), *tensors, local=items)
        return
    kernel, rows, columns, items = _matmat(c, a, "matmat", tokens)
    groups = -(-a.ne[1] // rows), -(-tokens // columns), matrices
    c.launch(kernel, groups, *tensors, local=items)


@kernel(Op.MUL_MAT_ID, accepts=experts.accepts, on=GPU)
def mul_mat_id(node: Node, c: Compiler) -> None:
    """Append y[t, j] = as[ids[t, j]] b[t, j % b.ne[1]]."""
    a, b, ids = node.source(AS), node.source(ROWS), node.source(IDS)
    y = node.tensor
    used, tokens = ids.ne[:2]
    if used * tokens <= MAX_UNSORTED_ROWS * a.ne[2]:
        kernel, rows, items = _matvec(c, a, "matvec_id", 1)
        groups = -(-a.ne[1] // rows), used * tokens
        tensors = a, a.ne, a.nb, b, b.ne, b.nb, ids, ids.ne, ids.nb, y, y.nb
        c.launch(kernel, groups, *tensors, *c.fault, local=items)
        return
    each = used * tokens // a.ne[2]
    kernel, rows, columns, items = _matmat(c, a, "matmat_id", each)
    count = used * tokens // columns + a.ne[2]
    tiles, pairs = _sorted(c, ids, a.ne[2], columns, count)
    arguments = a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb, used, tiles, pairs
    c.launch(kernel, (-(-a.ne[1] // rows), count), *arguments, local=items)


def _sorted(
    c: Compiler, ids: Tensor, experts: int, columns: int, count: int
) -> tuple[cl.Buffer, cl.Buffer]:
    """Sort the chosen experts, once for all products with the same ids.

    Args:
        c: the compiler.
        ids: I32, the experts that each token uses.
        experts: the number of experts.
        columns: the rows of b in a tile.
        count: the largest possible number of tiles.

    Returns:
        The tiles and the pairs of token and slot, as gpu_experts.cl writes them.
    """

    def make() -> tuple[cl.Buffer, cl.Buffer]:
        ends, tiles = c.memory(4 * experts), c.memory(16 * count)
        pairs = c.memory(4 * ids.ne[0] * ids.ne[1])
        kernel = c.kernel("gpu_experts", "sort", TOKENS=columns)
        arguments = ids, ids.ne, ids.nb, experts, count, ends, tiles, pairs
        c.launch(kernel, (1,), *arguments, *c.fault)
        return tiles, pairs

    return c.shared(("experts", ids.id, experts, columns), [ids], make)


class MatVec(NamedTuple):
    """A matrix-vector kernel, the rows of a work-group, and its work-items."""

    kernel: KernelKey
    rows: int
    items: int


class MatMat(NamedTuple):
    """A kernel, the rows and the rows of b of a tile, and its work-items."""

    kernel: KernelKey
    rows: int
    tokens: int
    items: int


def _matvec(c: Compiler, a: Tensor, name: str, tokens: int) -> MatVec:
    """A kernel of gpu_matvec.cl with work-groups that the device allows."""
    for config in c.traits.launch_config.smaller_matvecs():
        kernel = c.kernel(
            "gpu_matvec",
            name,
            TYPE=int(a.type),
            ROWS=config.rows,
            TOKENS=tokens,
            LOCAL=config.items,
        )
        if c.fits(kernel, config.matvec_group(tokens)):
            break
    return MatVec(kernel, config.rows, config.items)


def _matmat(c: Compiler, a: Tensor, name: str, tokens: int) -> MatMat:
    """A kernel of gpu_matmat.cl with work-groups that the device allows.

    Its tiles have the configured number of rows of b, or half of it if enough.
    """
    for config in c.traits.launch_config.smaller_tiles():
        half = config.tile_tokens // 2
        columns = half if tokens <= half else config.tile_tokens
        kernel = c.kernel(
            "gpu_matmat",
            name,
            TYPE=int(a.type),
            ROWS=config.tile_rows,
            TOKENS=columns,
            DEPTH=config.depth,
        )
        group = config.tile_group(columns)
        if c.fits(kernel, group):
            break
    return MatMat(kernel, config.tile_rows, columns, group.items)
