"""Launches for MUL_MAT on CPUs; quantized.py multiplies quantized matrices."""

from __future__ import annotations

from collections.abc import Iterator

import pyopencl as cl

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import CPU, kernel
from ggrpc.devices.opencl.ops import quantized
from ggrpc.devices.opencl.predicates import dense_f32
from ggrpc.ops import Node, Op
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS

MAX_MATRICES = 64  # quantized matrices of a node, because each needs a launch

# Up to FEW rows of b, and from LONG columns on, it takes less time to unpack elements
# again for each use than to write them to a panel.
FEW, LONG = 8, 128
PANEL = 32  # rows of the matrix in a work-group of matmat_float.cl ...
CHUNK = 1024  # ... and columns that it unpacks at a time


def accepts(node: Node) -> bool:
    """Whether the kernels for CPUs and for GPUs can compute a MUL_MAT."""
    a, b, y = node.source(A), node.source(B), node.tensor
    if not dense_f32(b):
        return False
    if a.type in quantized.TYPES:
        few = a.ne[2] * a.ne[3] <= MAX_MATRICES
        return few and y.is_contiguous and (a.ne[2] == 1 or b.ne[3] == a.ne[3])
    return a.type in FLOATS and dense_f32(y) and a.nb[0] == a.type.type_size


@kernel(Op.MUL_MAT, accepts=accepts, on=CPU)
def mul_mat(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k]."""
    a, b, y = node.source(A), node.source(B), node.tensor
    rows = b.nrows // (a.ne[2] * a.ne[3])
    if a.type in quantized.TYPES:
        for matrix in _matrices(a, b, y):
            quantized.multiply(c, *matrix)
    elif rows == 1:
        _matvec(c, a, b, y)
    elif rows <= FEW and a.ne[0] >= LONG:
        _matmat_few(c, a, b, y, 1 << (rows - 1).bit_length())
    else:
        _matmat(c, a, b, y, tile_of(c, a, rows))


def tile_of(c: Compiler, a: Tensor, rows: int) -> int:
    """The number of rows of b that are multiplied at once.

    With AVX2, the sums of six rows fit the 16 registers and hide the latency of a
    multiplication; that is a sixth faster than with four rows.
    """
    if a.type in FLOATS and c.traits.int8_dot == "AVX2" and rows > 4:
        return 6
    return quantized.tile_of(c, rows)


def _matvec(c: Compiler, a: Tensor, b: Tensor, y: Tensor) -> None:
    band = quantized.band_of(c, a, a.ne[1])
    groups = -(-a.ne[1] // band), a.ne[2] * a.ne[3]
    defines = quantized.matvec_defines(c, a)
    kernel = c.kernel("matvec_float", "matvec_float", **defines)
    c.launch(kernel, groups, a, a.ne, a.nb, b, b.nb, y, y.nb, band, local=1)


def _matmat_few(c: Compiler, a: Tensor, b: Tensor, y: Tensor, tile: int) -> None:
    matrices = a.ne[2] * a.ne[3]
    band = -(-a.ne[1] * matrices // (c.traits.units * c.traits.launch_config.bands))
    groups = -(-a.ne[1] // band), matrices
    defines = quantized.cpu_defines(c, a) | {"TILE": tile}
    kernel = c.kernel("matfew_float", "matfew_float", **defines)
    c.launch(kernel, groups, a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb, band, local=1)


def _matmat(c: Compiler, a: Tensor, b: Tensor, y: Tensor, tile: int) -> None:
    panel, chunk = panel_of(c)
    defines = quantized.cpu_defines(c, a) | {"TILE": tile, "CHUNK": chunk}
    kernel = c.kernel("matmat_float", "matmat_float", **defines)
    groups = -(-a.ne[1] // PANEL), a.ne[2] * a.ne[3]
    c.launch(kernel, groups, a, a.ne, a.nb, b, b.ne, b.nb, y, y.nb, panel, local=1)


def panel_of(c: Compiler) -> tuple[cl.LocalMemory, int]:
    """Local memory for a panel, and the number of its columns."""
    chunk = quantized.chunk_of(c, CHUNK, 4 * PANEL)
    return cl.LocalMemory(4 * PANEL * chunk), chunk


def _matrices(
    a: Tensor, b: Tensor, y: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each matrix of a, the matrices of b that it is multiplied with, and of y."""
    if a.ne[2:] == (1, 1):
        yield a, b, y
        return
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
