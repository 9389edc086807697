"""MUL_MAT of quantized matrices, by dot products of bytes.

The other operand is rounded to bytes, with a scale for each 32, as ggml does it on a
processor. Each type's blocks are read as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.dense import dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

PADDED = 256  # a row of bytes has a multiple of this
PANEL = 16  # rows of the matrix that a work-group of matmat.cl has,
CHUNK = 4096  # and columns, so that they stay in the L2 cache
MOST_ROWS = 8  # of a tile: so many sums fit a processor's registers beside the rest
MOST_MATRICES = 64  # each is a launch
BANDS_EACH = 8  # work-groups for each unit, so that none waits for the other long

# How many rows of the matrix are read side by side.
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


class Rounded(NamedTuple):
    """Rows of float32 as rounded.cl leaves them.

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


def _accepts(node: Node) -> bool:
    a, b, y = node.source(A), node.source(B), node.tensor
    return (
        a.type in TYPES
        and dense_f32(b)
        and y.is_contiguous
        and a.ne[2] * a.ne[3] <= MOST_MATRICES
        and (a.ne[2] == 1 or b.ne[3] == a.ne[3])
    )


@kernel(Op.MUL_MAT, accepts=_accepts)
def mul_mat(node: Node, c: Compiler) -> None:
    """Append y[i3, i2, i1, i0] = sum_k a[i3 / r3, i2 / r2, i0, k] b[i3, i2, i1, k]."""
    for a, b, y in _matrices(node):
        x = rounded(b, c)
        if x.tile == 1:
            _times_row(c, a, x, y)
        else:
            _times_rows(c, a, x, y)


def rounded(b: Tensor, c: Compiler) -> Rounded:
    """What the rows of a tensor are rounded to, by a launch where it is not known yet.

    Rows of the same number and length all use the same memory, one after the other.
    """
    rows = rows_of(b)
    tile = min(MOST_ROWS, 1 << (rows - 1).bit_length())
    padded = -(-b.ne[0] // PADDED) * PADDED
    count = -(-rows // tile) * tile
    memory = c.shared(("rounded", count, padded), (), lambda: _Memory(c, count, padded))
    x = Rounded(tile, padded, memory.numbers, memory.scales, memory.sums)
    now = c.shared(("rounded", b.buffer, b.data, b.ne, b.nb), [b], object)
    if memory.holds is not now:
        memory.holds = now
        name = c.kernel("rounded", "rounded", TILE=tile)
        outputs = (x.numbers, x.scales, *x.sums)
        c.launch(name, (count,), b, b.ne, b.nb, padded, *outputs, local=1)
    return x


class _Memory:
    """Where rounded rows lie, and a mark for which they are."""

    def __init__(self, c: Compiler, rows: int, padded: int) -> None:
        elements = rows * padded
        self.numbers = c.memory(elements)
        self.scales = c.memory(elements // 32 * 4)
        self.sums = c.memory(elements // 32 * 4), c.memory(elements // 16 * 4)
        self.holds: object = None


def _matrices(node: Node) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each matrix, all that is multiplied with it, and where the product goes."""
    a, b, y = node.source(A), node.source(B), node.tensor
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


def _sums(a: Tensor, x: Rounded) -> cl.Buffer:
    return x.sums[a.type in OF_SIXTEEN]


def _times_row(c: Compiler, a: Tensor, x: Rounded, y: Tensor) -> None:
    k, n, _, _ = a.ne
    rows = ROWS.get(a.type, OTHERWISE_ROWS)
    band = -(-n // (c.traits.units * BANDS_EACH * rows)) * rows
    name = c.kernel("matvec", "matvec", **_defines(c, a), ROWS=rows)
    given = x.numbers, x.scales, _sums(a, x)
    c.launch(name, (-(-n // band),), a, a.nb[1], *given, k, n, y, band, local=1)


def _times_rows(c: Compiler, a: Tensor, x: Rounded, y: Tensor) -> None:
    k, n, _, _ = a.ne
    name = c.kernel("matmat", "matmat", **_defines(c, a), TILE=x.tile, CHUNK=CHUNK)
    given = x.numbers, x.scales, _sums(a, x), x.padded, k, n, rows_of(y)
    c.launch(name, (-(-n // PANEL),), a, a.nb[1], *given, y, n, *_panel(a), local=1)


def _panel(a: Tensor) -> tuple[cl.LocalMemory, ...]:
    """Its bytes, its scales and its minima: 16 of them, of 4 bytes, for each `sub`."""
    sub = 16 if a.type in OF_SIXTEEN else 32
    sizes = PANEL * CHUNK, 4 * PANEL * CHUNK // sub, 4 * PANEL * CHUNK // sub
    return tuple(map(cl.LocalMemory, sizes))


def _defines(c: Compiler, a: Tensor) -> dict[str, int]:
    defines = {"TYPE": int(a.type)}
    return defines | {"VNNI": 1} if c.traits.vnni else defines
