"""Launches for MUL_MAT_ID on CPUs, and for ADD_ID; the kernels read the ids.

For few tokens, each choice is a matrix-vector product. For many, a kernel groups the
choices by expert, and each expert's matrix is multiplied with its whole group.
"""

from __future__ import annotations

from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.compiler import Argument, Compiler
from ggrpc.devices.opencl.kernel_table import CPU, kernel
from ggrpc.devices.opencl.ops import matmul, quantized
from ggrpc.devices.opencl.ops.quantized import (
    QuantizedRows,
    cpu_defines,
    matvec_defines,
)
from ggrpc.devices.opencl.predicates import dense_f32
from ggrpc.ops import Node, Op
from ggrpc.ops.experts import AS, IDS, A, B
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS

# The average number of choices per expert from which grouping takes less time.
MIN_GROUPED = 2


class Groups(NamedTuple):
    """Choices grouped by expert: see experts.cl.

    Attributes:
        tile: each group starts at a multiple of it.
        size: the largest possible number of choices, padding included.
        starts: int32 (experts + 1,), where the group of each expert starts, and the end
            of the last group.
        ends: int32 (experts,), where the group of each expert ends.
        choices: int32 (size,), the position in ids of each choice; padding is negative.
    """

    tile: int
    size: int
    starts: cl.Buffer
    ends: cl.Buffer
    choices: cl.Buffer


def accepts(node: Node) -> bool:
    """Whether the kernels for CPUs and for GPUs can compute a MUL_MAT_ID."""
    a, b, y = node.source(AS), node.source(B), node.tensor
    floats = a.type in FLOATS and a.nb[0] == a.type.type_size
    return dense_f32(b) and dense_f32(y) and (floats or a.type in quantized.TYPES)


@kernel(Op.MUL_MAT_ID, accepts=accepts, on=CPU)
def mul_mat_id(node: Node, c: Compiler) -> None:
    """Append y[t, j, i] = sum_k as[ids[t, j], i, k] b[t, j % b1, k]."""
    a, b, ids, y = node.source(AS), node.source(B), node.source(IDS), node.tensor
    if is_grouped(a, ids):
        rows = ids.nelements // a.ne[2]
        groups = _grouped(c, ids, a.ne[2], matmul.tile_of(c, a, rows))
        _multiply_groups(c, a, b, ids, y, groups)
    else:
        _multiply_each(c, a, b, ids, y)


def is_grouped(a: Tensor, ids: Tensor) -> bool:
    """Whether there are so many choices that they are grouped by expert."""
    return ids.nelements // a.ne[2] >= MIN_GROUPED


def _multiply_each(c: Compiler, a: Tensor, b: Tensor, ids: Tensor, y: Tensor) -> None:
    inputs: tuple[Argument, ...]
    if a.type in quantized.TYPES:
        x = quantized.quantize_rows(b, c, tile=1)
        name = "experts_matvec"
        inputs = *x.inputs(a), x.padded, b.ne[1]
    else:
        name = "experts_matvec_float"
        inputs = b, b.ne, b.nb
    n, choices = a.ne[1], ids.nelements
    band = quantized.band_of(c, a, n * choices)
    kernel = c.kernel(name, name, **matvec_defines(c, a))
    groups = -(-n // band), choices
    outputs: tuple[Argument, ...] = ids, ids.ne, ids.nb, y, y.nb, band
    c.launch(kernel, groups, a, a.ne, a.nb, *inputs, *outputs, *c.fault, local=1)


def _multiply_groups(
    c: Compiler, a: Tensor, b: Tensor, ids: Tensor, y: Tensor, groups: Groups
) -> None:
    inputs: tuple[Argument, ...]
    if a.type in quantized.TYPES:
        x = _quantize_groups(c, b, ids.ne[0], a.ne[2], groups)
        name, rows = "experts_matmat", quantized.PANEL
        inputs = *x.inputs(a), x.padded
        panel, chunk = quantized.panel_of(c, a)
    else:
        name, rows = "experts_matmat_float", matmul.PANEL
        inputs = b, b.ne, b.nb
        memory, chunk = matmul.panel_of(c)
        panel = (memory,)
    defines = cpu_defines(c, a) | {"TILE": groups.tile, "CHUNK": chunk}
    kernel = c.kernel(name, name, **defines)
    outputs: tuple[Argument, ...]
    outputs = groups.starts, groups.ends, groups.choices, ids.ne[0], y, y.nb
    shape = -(-a.ne[1] // rows), a.ne[2]
    c.launch(kernel, shape, a, a.ne, a.nb, *inputs, *outputs, *panel, local=1)


def _quantize_groups(
    c: Compiler, b: Tensor, used: int, experts: int, groups: Groups
) -> QuantizedRows:
    """Append the quantization of the rows of b, in the order of the groups."""
    x, is_new = quantized.memory_for(b, c, groups.tile, groups.size, groups)
    if is_new:
        kernel = c.kernel("experts_quantize", "experts_quantize", TILE=groups.tile)
        inputs = b, b.ne, b.nb, groups.starts, groups.choices, experts, used
        c.launch(kernel, (groups.size,), *inputs, x.padded, *x.outputs, local=1)
    return x


def _grouped(c: Compiler, ids: Tensor, experts: int, tile: int) -> Groups:
    """Append the grouping, once for all products with the same choices."""

    def make() -> Groups:
        size = ids.nelements + min(experts, ids.nelements) * (tile - 1)
        size = -(-size // tile) * tile
        counts = experts + 1, experts, size
        groups = Groups(tile, size, *(c.memory(4 * count) for count in counts))
        kernel = c.kernel("experts", "group_by_expert")
        c.launch(kernel, (1,), ids, ids.ne, ids.nb, experts, *groups, *c.fault)
        return groups

    key = "grouped", ids.buffer, ids.data, ids.ne, ids.nb, experts, tile
    return c.shared(key, [ids], make)


def _accepts_add(node: Node) -> bool:
    return all(map(dense_f32, (node.source(A), node.source(B), node.tensor)))


@kernel(Op.ADD_ID, accepts=_accepts_add)
def add_id(node: Node, c: Compiler) -> None:
    """Append y[t, j] = a[t, j] + b[ids[t, j]], one work-group per row."""
    a, b, ids, y = node.source(A), node.source(B), node.source(IDS), node.tensor
    kernel = c.kernel("experts", "add_id")
    c.launch(
        kernel,
        (y.nrows,),
        *(a, b, ids, y, y.ne, a.nb, b.ne, b.nb, ids.nb, y.nb, *c.fault),
    )
