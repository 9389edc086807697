"""MUL_MAT: of quantized matrices see quantized.py, of plain ones here, in float32."""

from __future__ import annotations

from collections.abc import Iterator

import pyopencl as cl

from ggrpc.devices.opencl.ops import gpu_matmul, quantized
from ggrpc.devices.opencl.ops.predicates import dense_f32
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS

MAX_MATRICES = 64  # of quantized ones, each is a launch

ROWS = 4  # of the matrix, read side by side
FEW, LONG = 8, 128  # rows of b, and columns, for which a panel is not worth it
PANEL = 32  # rows of the matrix that a work-group of matmat_float.cl has,
CHUNK = 1024


def _accepts(node: Node) -> bool:
    a, b, y = node.source(A), node.source(B), node.tensor
    if not dense_f32(b):
        return False
    if a.type in quantized.TYPES:
        few = a.ne[2] * a.ne[3] <= MAX_MATRICES
        return few and y.is_contiguous and (a.ne[2] == 1 or b.ne[3] == a.ne[3])
    return a.type in FLOATS and dense_f32(y) and a.nb[0] == a.type.type_size


@kernel(Op.MUL_MAT, accepts=_accepts)
def mul_mat(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k]."""
    a, b, y = node.source(A), node.source(B), node.tensor
    if not c.traits.is_cpu:
        gpu_matmul.mul_mat(c, a, b, y)
        return
    rows = b.nrows // (a.ne[2] * a.ne[3])
    if a.type in quantized.TYPES:
        for matrix in _matrices(a, b, y):
            quantized.multiply(c, *matrix)
    elif rows == 1:
        _times_row(c, a, b, y)
    elif rows <= FEW and a.ne[0] >= LONG:
        _times_few(c, a, b, y, 1 << (rows - 1).bit_length())
    else:
        _times_rows(c, a, b, y, tile_of(c, a, rows))


def tile_of(c: Compiler, a: Tensor, rows: int) -> int:
    """How many rows are multiplied with a matrix at once.

    The sums of six fit 16 registers, and hide how long a multiplication takes; they are
    a sixth faster than those of four.
    """
    if a.type in FLOATS and c.traits.int8_dot == "AVX2" and rows > 4:
        return 6
    return quantized.tile_of(c, rows)


def _times_row(c: Compiler, a: Tensor, b: Tensor, y: Tensor) -> None:
    band = quantized.band_of(c, a.ne[1], ROWS)
    groups = -(-a.ne[1] // band), a.ne[2] * a.ne[3]
    name = c.kernel(
        "matvec_float", "matvec_float", **quantized.type_of(c, a), ROWS=ROWS
    )
    c.launch(name, groups, a, a.ne, a.nb, b, b.nb, y, y.nb, band, local=1)


def _times_few(c: Compiler, a: Tensor, b: Tensor, y: Tensor, tile: int) -> None:
    matrices = a.ne[2] * a.ne[3]
    band = -(-a.ne[1] * matrices // (c.traits.units * c.traits.launch_config.bands))
    groups = -(-a.ne[1] // band), matrices
    name = c.kernel(
        "matfew_float", "matfew_float", **quantized.type_of(c, a), TILE=tile
    )
    c.launch(name, groups, a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb, band, local=1)


def _times_rows(c: Compiler, a: Tensor, b: Tensor, y: Tensor, tile: int) -> None:
    defines = quantized.type_of(c, a) | {"TILE": tile, "CHUNK": CHUNK}
    name = c.kernel("matmat_float", "matmat_float", **defines)
    groups = -(-a.ne[1] // PANEL), a.ne[2] * a.ne[3]
    panel = cl.LocalMemory(4 * PANEL * CHUNK)
    c.launch(name, groups, a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb, panel, local=1)


def _matrices(
    a: Tensor, b: Tensor, y: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each matrix, all that is multiplied with it, and where the product goes."""
    r2, r3 = b.ne[2] // a.ne[2], b.ne[3] // a.ne[3]
    for i3 in range(a.ne[3]):
        for i2 in range(a.ne[2]):
            yield (
                _part(a, i2, 1, i3, 1),
                _part(b, i2 * r2, r2, i3 * r3, r3),
                _part(y, i2 * r2, r2, i3 * r3, r3),
            )


def _part(x: Tensor, i2: int, n2: int, i3: int, n3: int) -> Tensor:
    at = x.data + i2 * x.nb[2] + i3 * x.nb[3]
    return x._replace(ne=(*x.ne[:2], n2, n3), data=at)
