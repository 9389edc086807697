"""Launches for products with quantized matrices on CPUs, with int8 dot products.

The other operand is quantized to int8 with a scale for each 32 elements, as in ggml's
cpu backend. The matrices' blocks are read as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

BLOCK = 32  # elements that share a scale
PADDED = 256  # quantized rows are padded to a multiple of this many elements
PANEL = 16  # rows of the matrix in a work-group of matmat.cl ...
CHUNK = 4096  # ... and columns that it unpacks at a time; they fit the L2 cache

# Types with a scale for each 16 elements. They need the sums of 16 elements of the
# other operand; other types need the sums of 32.
SCALE_PER_16 = {GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q6_K}
TYPES = SCALE_PER_16 | {
    GGMLType.Q4_0,
    GGMLType.Q4_1,
    GGMLType.Q5_0,
    GGMLType.Q5_1,
    GGMLType.Q8_0,
    GGMLType.Q4_K,
    GGMLType.Q5_K,
    GGMLType.IQ4_NL,
    GGMLType.IQ4_XS,
    GGMLType.MXFP4,
}


class QuantizedRows(NamedTuple):
    """Rows of float32 that were quantized to int8: see quantize_row.h for the layout.

    Attributes:
        tile: the number of rows that are interleaved.
        padded: the number of elements of a row, padding included.
        values: int8, the elements divided by their scale.
        scales: float32, one for each 32 elements.
        sums: float32, the sums of each 32 and of each 16 values.
    """

    tile: int
    padded: int
    values: cl.Buffer
    scales: cl.Buffer
    sums: tuple[cl.Buffer, cl.Buffer]

    @property
    def outputs(self) -> tuple[cl.Buffer, ...]:
        """The arguments of kernels that quantize rows."""
        return self.values, self.scales, *self.sums

    def inputs(self, a: Tensor) -> tuple[cl.Buffer, ...]:
        """The arguments of kernels that multiply the rows with a matrix."""
        return self.values, self.scales, self.sums[a.type in SCALE_PER_16]


class _Memory:
    """The memory of quantized rows, and an object that identifies the rows in it."""

    def __init__(self, c: Compiler, rows: int, padded: int) -> None:
        elements = rows * padded
        self.values = c.memory(elements)
        self.scales = c.memory(elements // 32 * 4)
        self.sums = c.memory(elements // 32 * 4), c.memory(elements // 16 * 4)
        self.holds: object = None


def multiply(c: Compiler, a: Tensor, b: Tensor, y: Tensor) -> None:
    """Append y[j] = b[j] a.T for all rows b[j].

    Args:
        c: the compiler.
        a: a matrix of one of `TYPES`.
        b: F32 with contiguous rows.
        y: F32, contiguous, as many rows as b.
    """
    x = quantize_rows(b, c, tile_of(c, b.nrows))
    if x.tile == 1:
        _matvec(c, a, x, y)
    else:
        _matmat(c, a, x, y)


def quantize_rows(b: Tensor, c: Compiler, tile: int) -> QuantizedRows:
    """Append the quantization of the rows of a tensor, unless an earlier node did."""
    count = -(-b.nrows // tile) * tile
    x, is_new = memory_for(b, c, tile, count)
    if is_new:
        kernel = c.kernel("quantize_rows", "quantize_rows", TILE=tile)
        c.launch(kernel, (count,), b, b.ne, b.nb, x.padded, *x.outputs, local=1)
    return x


def memory_for(
    b: Tensor, c: Compiler, tile: int, count: int, order: object = None
) -> tuple[QuantizedRows, bool]:
    """Memory for quantized rows, and whether the caller must fill it.

    All tensors with the same number and length of rows use the same memory in turn.

    Args:
        b: the tensor whose rows are quantized.
        c: the compiler.
        tile: the number of rows that are interleaved.
        count: the number of rows, padding of the last tiles included.
        order: an object that stands for the order of the rows; None for b's order.
    """
    padded = -(-b.ne[0] // PADDED) * PADDED
    memory = c.shared(
        ("quantized", count, padded), (), lambda: _Memory(c, count, padded)
    )
    # This becomes a new object when b is overwritten.
    key = "quantized", b.buffer, b.data, b.ne, b.nb, tile, order
    contents = c.shared(key, [b], object)
    is_new = memory.holds is not contents
    memory.holds = contents
    rows = QuantizedRows(tile, padded, memory.values, memory.scales, memory.sums)
    return rows, is_new


def _matvec(c: Compiler, a: Tensor, x: QuantizedRows, y: Tensor) -> None:
    k, n, _, _ = a.ne
    band = band_of(c, a, n)
    kernel = c.kernel("matvec", "matvec", **matvec_defines(c, a))
    groups = (-(-n // band),)
    c.launch(kernel, groups, a, a.nb[1], *x.inputs(a), k, n, y, band, local=1)


def _matmat(c: Compiler, a: Tensor, x: QuantizedRows, y: Tensor) -> None:
    k, n, _, _ = a.ne
    panel, chunk = panel_of(c, a)
    defines = cpu_defines(c, a) | {"TILE": x.tile, "CHUNK": chunk}
    kernel = c.kernel("matmat", "matmat", **defines)
    groups = (-(-n // PANEL),)
    shape = x.padded, k, n, y.nrows
    c.launch(kernel, groups, a, a.nb[1], *x.inputs(a), *shape, y, n, *panel, local=1)


def matvec_defines(c: Compiler, a: Tensor) -> dict[str, int]:
    """The defines of matrix-vector kernels: see `cpu_defines` and `LaunchConfig`."""
    defines = cpu_defines(c, a) | {"ROWS": rows_at_once(c, a)}
    if a.type in TYPES:
        defines["AHEAD"] = c.traits.launch_config.prefetch
    return defines


def rows_at_once(c: Compiler, a: Tensor) -> int:
    """The rows of a matrix that a matrix-vector product reads side by side."""
    config = c.traits.launch_config
    return config.matvec_rows if a.type in TYPES else config.float_rows


def panel_of(c: Compiler, a: Tensor) -> tuple[tuple[cl.LocalMemory, ...], int]:
    """Local memory for a panel's values, scales and minima, and its columns."""
    block = 16 if a.type in SCALE_PER_16 else 32
    chunk = chunk_of(c, CHUNK, PANEL + 2 * 4 * PANEL // block)
    sizes = PANEL * chunk, 4 * PANEL * chunk // block, 4 * PANEL * chunk // block
    return tuple(map(cl.LocalMemory, sizes)), chunk


def chunk_of(c: Compiler, chunk: int, size: int) -> int:
    """The columns of a panel: as many as the device's local memory allows.

    Args:
        c: the compiler.
        chunk: the most columns, a power of two.
        size: the bytes of a column.
    """
    while chunk > PADDED and chunk * size > c.traits.max_group.local_memory:
        chunk //= 2
    return chunk


def cpu_defines(c: Compiler, a: Tensor) -> dict[str, int]:
    """The defines of kernels for CPUs: the matrix's TYPE, and the int8 dot product."""
    defines = {"TYPE": int(a.type)}
    return defines | {c.traits.int8_dot: 1} if c.traits.int8_dot else defines


def tile_of(c: Compiler, rows: int) -> int:
    """The number of rows of b that are multiplied at once."""
    return min(c.traits.launch_config.tile, 1 << (rows - 1).bit_length())


def band_of(c: Compiler, a: Tensor, n: int) -> int:
    """The number of rows that one work-group of a matrix-vector product computes.

    Args:
        c: the compiler.
        a: a matrix.
        n: the number of rows of all matrices together.

    Returns:
        A multiple of the rows that are read side by side.
    """
    rows, bands = rows_at_once(c, a), c.traits.launch_config.bands
    return -(-n // (c.traits.units * bands * rows)) * rows
