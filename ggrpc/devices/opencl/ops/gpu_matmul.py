"""MUL_MAT and MUL_MAT_ID on GPUs: every type of matrix is unpacked to float32.

Few rows are multiplied as they are read; many by tiles in local memory.
"""

from __future__ import annotations

import pyopencl as cl

from ggrpc.devices.opencl.program import Compiler
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.tensor import Tensor

FEW = 8  # rows of b that one work-group multiplies with each row of a matrix
FEW_EACH = 4  # rows for each expert, on average, that are not worth being sorted


def mul_mat(c: Compiler, a: Tensor, b: Tensor, y: Tensor) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k].

    Args:
        c: the compiler.
        a: matrices of a plain type, or one of `quantized.TYPES`; their rows dense.
        b: F32, dense rows.
        y: F32, dense rows.
    """
    matrices = a.ne[2] * a.ne[3]
    tokens = b.nrows // matrices
    given = a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb
    if tokens <= FEW:
        each = 1 << (tokens - 1).bit_length()
        name = c.kernel("gpu_matvec", "matvec", **_row_defines(c, a, each))
        groups = -(-a.ne[1] // c.traits.launch_config.rows), 1, matrices
        c.launch(name, groups, *given, local=c.traits.launch_config.items)
        return
    across = _across(c, tokens)
    name = c.kernel("gpu_matmat", "matmat", **_tile_defines(c, a, across))
    groups = _tile_rows(c, a), -(-tokens // across), matrices
    c.launch(name, groups, *given, local=_items(c, across))


def mul_mat_id(c: Compiler, a: Tensor, b: Tensor, ids: Tensor, y: Tensor) -> None:
    """Append y[t, j] = a[ids[t, j]] b[t, j % b.ne[1]], experts found on the device.

    Args:
        c: the compiler.
        a: the experts' matrices, as for `mul_mat`.
        b: F32, dense rows: one for each of a token's experts, or for all of them.
        ids: I32: those experts.
        y: F32, dense rows.
    """
    used, tokens = ids.ne[:2]
    if used * tokens <= FEW_EACH * a.ne[2]:
        name = c.kernel("gpu_matvec", "matvec_id", **_row_defines(c, a, 1))
        groups = -(-a.ne[1] // c.traits.launch_config.rows), used * tokens
        tensors = a, a.ne, a.nb, b, b.ne, b.nb, ids, ids.ne, ids.nb, y, y.nb
        c.launch(name, groups, *tensors, *c.fault, local=c.traits.launch_config.items)
        return
    across = _across(c, used * tokens // a.ne[2])
    count = used * tokens // across + a.ne[2]
    tiles, pairs = _sorted(c, ids, a.ne[2], across, count)
    name = c.kernel("gpu_matmat", "matmat_id", **_tile_defines(c, a, across))
    given = a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb, used, tiles, pairs
    c.launch(name, (_tile_rows(c, a), count), *given, local=_items(c, across))


def _sorted(
    c: Compiler, ids: Tensor, experts: int, across: int, count: int
) -> tuple[cl.Buffer, cl.Buffer]:
    """What gpu_experts.cl makes, once for all products by the same ids."""

    def make() -> tuple[cl.Buffer, cl.Buffer]:
        ends, tiles = c.memory(4 * experts), c.memory(16 * count)
        pairs = c.memory(4 * ids.ne[0] * ids.ne[1])
        name = c.kernel("gpu_experts", "sort", TOKENS=across)
        given = ids, ids.ne, ids.nb, experts, count, ends, tiles, pairs
        c.launch(name, (1,), *given, *c.fault)
        return tiles, pairs

    return c.shared(("experts", ids.id, experts, across), [ids], make)


def _row_defines(c: Compiler, a: Tensor, tokens: int) -> dict[str, Define]:
    launch_config = c.traits.launch_config
    return {
        "TYPE": int(a.type),
        "ROWS": launch_config.rows,
        "TOKENS": tokens,
        "LOCAL": launch_config.items,
    }


def _tile_defines(c: Compiler, a: Tensor, across: int) -> dict[str, Define]:
    launch_config = c.traits.launch_config
    return {
        "TYPE": int(a.type),
        "ROWS": launch_config.tile_rows,
        "TOKENS": across,
        "DEPTH": launch_config.depth,
    }


def _across(c: Compiler, tokens: int) -> int:
    """Rows of b in a tile: no more than that many fill, but half of it at least."""
    most = c.traits.launch_config.tile_tokens
    return most if tokens > most // 2 else most // 2


def _tile_rows(c: Compiler, a: Tensor) -> int:
    return -(-a.ne[1] // c.traits.launch_config.tile_rows)


def _items(c: Compiler, across: int) -> int:
    """Each multiplies eight rows by eight."""
    return c.traits.launch_config.tile_rows // 8 * (across // 8)
