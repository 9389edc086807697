"""Launches for MUL_MAT and MUL_MAT_ID on GPUs; matrices are unpacked to float32.

With few rows of b, a matrix is unpacked as it is read; with many, tile by tile in local
memory.
"""

from __future__ import annotations

import pyopencl as cl

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import GPU, kernel
from ggrpc.devices.opencl.ops import experts, matmul
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.ops import Node, Op
from ggrpc.ops.experts import AS, IDS
from ggrpc.ops.experts import B as ROWS
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor

MAX_MATVEC_ROWS = 8  # of b; one work-group multiplies all of them
MAX_UNSORTED_ROWS = 4  # per expert, on average; sorting would take longer


@kernel(Op.MUL_MAT, accepts=matmul.accepts, on=GPU)
def mul_mat(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k]."""
    a, b, y = node.source(A), node.source(B), node.tensor
    matrices = a.ne[2] * a.ne[3]
    tokens = b.nrows // matrices
    tensors = a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb
    if tokens <= MAX_MATVEC_ROWS:
        columns = 1 << (tokens - 1).bit_length()
        kernel = c.kernel("gpu_matvec", "matvec", **_matvec_defines(c, a, columns))
        groups = -(-a.ne[1] // c.traits.launch_config.rows), 1, matrices
        c.launch(kernel, groups, *tensors, local=c.traits.launch_config.items)
        return
    columns = _tile_columns(c, tokens)
    kernel = c.kernel("gpu_matmat", "matmat", **_matmat_defines(c, a, columns))
    groups = _row_tiles(c, a), -(-tokens // columns), matrices
    c.launch(kernel, groups, *tensors, local=_tile_items(c, columns))


@kernel(Op.MUL_MAT_ID, accepts=experts.accepts, on=GPU)
def mul_mat_id(node: Node, c: Compiler) -> None:
    """Append y[t, j] = as[ids[t, j]] b[t, j % b.ne[1]]."""
    a, b, ids = node.source(AS), node.source(ROWS), node.source(IDS)
    y = node.tensor
    used, tokens = ids.ne[:2]
    if used * tokens <= MAX_UNSORTED_ROWS * a.ne[2]:
        kernel = c.kernel("gpu_matvec", "matvec_id", **_matvec_defines(c, a, 1))
        groups = -(-a.ne[1] // c.traits.launch_config.rows), used * tokens
        tensors = a, a.ne, a.nb, b, b.ne, b.nb, ids, ids.ne, ids.nb, y, y.nb
        local = c.traits.launch_config.items
        c.launch(kernel, groups, *tensors, *c.fault, local=local)
        return
    columns = _tile_columns(c, used * tokens // a.ne[2])
    count = used * tokens // columns + a.ne[2]
    tiles, pairs = _sorted(c, ids, a.ne[2], columns, count)
    kernel = c.kernel("gpu_matmat", "matmat_id", **_matmat_defines(c, a, columns))
    arguments = a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb, used, tiles, pairs
    groups = _row_tiles(c, a), count
    c.launch(kernel, groups, *arguments, local=_tile_items(c, columns))


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


def _matvec_defines(c: Compiler, a: Tensor, tokens: int) -> dict[str, Define]:
    launch_config = c.traits.launch_config
    return {
        "TYPE": int(a.type),
        "ROWS": launch_config.rows,
        "TOKENS": tokens,
        "LOCAL": launch_config.items,
    }


def _matmat_defines(c: Compiler, a: Tensor, columns: int) -> dict[str, Define]:
    launch_config = c.traits.launch_config
    return {
        "TYPE": int(a.type),
        "ROWS": launch_config.tile_rows,
        "TOKENS": columns,
        "DEPTH": launch_config.depth,
    }


def _tile_columns(c: Compiler, tokens: int) -> int:
    """The rows of b in a tile: the configured number, or half of it if enough."""
    most = c.traits.launch_config.tile_tokens
    return most if tokens > most // 2 else most // 2


def _row_tiles(c: Compiler, a: Tensor) -> int:
    """The number of tiles that cover the rows of a matrix."""
    return -(-a.ne[1] // c.traits.launch_config.tile_rows)


def _tile_items(c: Compiler, columns: int) -> int:
    """The work-items of a tile: each computes eight by eight elements."""
    return c.traits.launch_config.tile_rows // 8 * (columns // 8)
