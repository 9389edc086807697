"""Products of quantized matrices, by dot products of bytes.

The other operand is rounded to bytes, with a scale for each 32, as ggml does it on a
processor. Each type's blocks are read as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.ops.predicates import rows_of
from ggrpc.devices.opencl.program import Compiler
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

BLOCK = 32  # numbers of a row that have a scale
PADDED = 256  # a row of bytes has a multiple of this
PANEL = 16  # rows of the matrix that a work-group of matmat.cl has,
CHUNK = 4096  # and columns, so that they stay in the L2 cache

# How many rows of the matrix are read side by side: see `rows_at_once`.
ROWS = {GGMLType.Q4_0: 4, GGMLType.Q8_0: 4, GGMLType.IQ4_NL: 4}
OTHERWISE_ROWS = 2

# The scale, and the sums that minima are multiplied with, are of 16 numbers, not 32.
OF_SIXTEEN = {GGMLType.Q2_K, GGMLType.Q3_K, GGMLType.Q6_K}
TYPES = OF_SIXTEEN | {
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
    """Rows of float32 as quantize_row.h leaves them.

    Attributes:
        tile: rows that lie side by side.
        padded: elements of a row.
        numbers: the bytes.
        scales: one for each 32.
        sums: scale times sum, for each 32 and for each 16.
    """

    tile: int
    padded: int
    numbers: cl.Buffer
    scales: cl.Buffer
    sums: tuple[cl.Buffer, cl.Buffer]

    @property
    def outputs(self) -> tuple[cl.Buffer, ...]:
        """All of them, as kernels that round take them."""
        return self.numbers, self.scales, *self.sums

    def inputs(self, a: Tensor) -> tuple[cl.Buffer, ...]:
        """What kernels take that multiply them with a matrix."""
        return self.numbers, self.scales, self.sums[a.type in OF_SIXTEEN]


def multiply(c: Compiler, a: Tensor, b: Tensor, y: Tensor) -> None:
    """Append y[j] = b[j] a.T for all rows b[j].

    Args:
        c: the compiler.
        a: a matrix of one of `TYPES`.
        b: dense F32 rows.
        y: as many rows of F32, one after the other.
    """
    x = quantize_rows(b, c, tile_of(c, rows_of(b)))
    if x.tile == 1:
        _times_row(c, a, x, y)
    else:
        _times_rows(c, a, x, y)


def quantize_rows(b: Tensor, c: Compiler, tile: int) -> QuantizedRows:
    """What the rows of a tensor are rounded to, launched where it is not yet known."""
    count = -(-rows_of(b) // tile) * tile
    x, is_new = room_for(b, c, tile, count)
    if is_new:
        name = c.kernel("quantize_rows", "rounded", TILE=tile)
        c.launch(name, (count,), b, b.ne, b.nb, x.padded, *x.outputs, local=1)
    return x


def room_for(
    b: Tensor, c: Compiler, tile: int, count: int, order: object = None
) -> tuple[QuantizedRows, bool]:
    """Memory for rounded rows, and whether it does not hold them yet.

    Rows of the same number and length all use the same, one after the other.

    Args:
        b: the rows.
        c: the compiler.
        tile: how many lie side by side.
        count: how many there are, those included that fill the last tiles.
        order: in which they come; None for the tensor's own.
    """
    padded = -(-b.ne[0] // PADDED) * PADDED
    memory = c.shared(("rounded", count, padded), (), lambda: _Memory(c, count, padded))
    now = c.shared(("rounded", b.buffer, b.data, b.ne, b.nb, tile, order), [b], object)
    is_new, memory.holds = memory.holds is not now, now
    return QuantizedRows(
        tile, padded, memory.numbers, memory.scales, memory.sums
    ), is_new


class _Memory:
    """Where rounded rows lie, and a mark for which they are."""

    def __init__(self, c: Compiler, rows: int, padded: int) -> None:
        elements = rows * padded
        self.numbers = c.memory(elements)
        self.scales = c.memory(elements // 32 * 4)
        self.sums = c.memory(elements // 32 * 4), c.memory(elements // 16 * 4)
        self.holds: object = None


def _times_row(c: Compiler, a: Tensor, x: QuantizedRows, y: Tensor) -> None:
    k, n, _, _ = a.ne
    rows = rows_at_once(c, a)
    band = band_of(c, n, rows)
    name = c.kernel("matvec", "matvec", **type_of(c, a), ROWS=rows)
    c.launch(name, (-(-n // band),), a, a.nb[1], *x.inputs(a), k, n, y, band, local=1)


def _times_rows(c: Compiler, a: Tensor, x: QuantizedRows, y: Tensor) -> None:
    k, n, _, _ = a.ne
    name = c.kernel("matmat", "matmat", **type_of(c, a), TILE=x.tile, CHUNK=CHUNK)
    rows = x.padded, k, n, rows_of(y)
    panel = panel_of(a)
    groups = (-(-n // PANEL),)
    c.launch(name, groups, a, a.nb[1], *x.inputs(a), *rows, y, n, *panel, local=1)


def rows_at_once(c: Compiler, a: Tensor) -> int:
    """How many rows of a matrix are read side by side.

    One where there are 16 registers: the sums of more of them go to memory and back,
    which takes twice as long.
    """
    return ROWS.get(a.type, OTHERWISE_ROWS) if c.traits.int8_dot == "VNNI" else 1


def panel_of(a: Tensor) -> tuple[cl.LocalMemory, ...]:
    """Its bytes, its scales and its minima: 16 of them, of 4 bytes, for each `sub`."""
    sub = 16 if a.type in OF_SIXTEEN else 32
    sizes = PANEL * CHUNK, 4 * PANEL * CHUNK // sub, 4 * PANEL * CHUNK // sub
    return tuple(map(cl.LocalMemory, sizes))


def type_of(c: Compiler, a: Tensor) -> dict[str, int]:
    """What kernels for processors are told about a matrix's type, and about them."""
    defines = {"TYPE": int(a.type)}
    return defines | {c.traits.int8_dot: 1} if c.traits.int8_dot else defines


def tile_of(c: Compiler, rows: int) -> int:
    """How many rows are multiplied at once."""
    return min(c.traits.launch_config.tile, 1 << (rows - 1).bit_length())


def band_of(c: Compiler, n: int, rows: int) -> int:
    """How many of `n` rows a work-group has: a multiple of `rows`."""
    return -(-n // (c.traits.units * c.traits.launch_config.bands * rows)) * rows
