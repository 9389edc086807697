"""MUL_MAT_ID and ADD_ID: each token chooses its matrices, or rows, on the device.

Of few tokens each choice is a matrix-vector product. Of many, a kernel groups them by
expert, and each expert's matrix is multiplied with all that chose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyopencl as cl

from ggrpc.devices.opencl.fusions import projections
from ggrpc.devices.opencl.ops import gpu_matmul, matmul, quantized
from ggrpc.devices.opencl.ops.activations import GATED
from ggrpc.devices.opencl.ops.predicates import dense_f32, rows_of
from ggrpc.devices.opencl.ops.quantized import QuantizedRows, type_of
from ggrpc.devices.opencl.program import Argument, Compiler, fuser, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.activations import clamps
from ggrpc.ops.experts import AS, IDS, A, B
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS

# Rows for each expert, on average, from which it is worth the while to group them.
MANY = 2


class Groups(NamedTuple):
    """Choices by expert, as experts.cl leaves them.

    Attributes:
        tile: each expert's begin at a multiple of it.
        room: how many there may be, with what fills the last tiles.
        starts: where each expert's begin, and where all end.
        ends: where each expert's end.
        places: what they are, in ids that are counted through.
    """

    tile: int
    room: int
    starts: cl.Buffer
    ends: cl.Buffer
    places: cl.Buffer


def _accepts_product(node: Node) -> bool:
    a, b, y = node.source(AS), node.source(B), node.tensor
    plain = a.type in FLOATS and a.nb[0] == a.type.type_size
    return dense_f32(b) and dense_f32(y) and (plain or a.type in quantized.TYPES)


@kernel(Op.MUL_MAT_ID, accepts=_accepts_product)
def mul_mat_id(node: Node, c: Compiler) -> None:
    """Append y[t, j, i] = sum_k as[ids[t, j], i, k] b[t, j % b1, k]."""
    a, b, ids, y = node.source(AS), node.source(B), node.source(IDS), node.tensor
    if not c.traits.is_cpu:
        gpu_matmul.mul_mat_id(c, a, b, ids, y)
        return
    rows = ids.nelements // a.ne[2]
    if rows < MANY:
        _times_each(c, a, b, ids, y)
    else:
        groups = _grouped(c, ids, a.ne[2], matmul.tile_of(c, a, rows))
        _times_groups(c, a, b, ids, y, groups)


@fuser(Op.MUL_MAT_ID)
def gate_and_up(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT_ID, MUL_MAT_ID of the same rows and choices, and the GLU of both."""
    halves = projections.halves_of(nodes, _of_same, c)
    if halves is None:
        return 0
    (gate, up), glu = halves, nodes[2]
    a, b, ids = gate.source(AS), gate.source(B), gate.source(IDS)
    other, results = up.source(AS), (gate.tensor, up.tensor, glu.tensor)
    rows = quantized.rows_at_once(c, a)
    x = quantized.quantize_rows(b, c, tile=1)
    band = quantized.band_of(c, a.ne[1] * ids.nelements, rows)
    name = c.kernel(
        "experts_gated",
        "experts_gated",
        **type_of(c, a),
        ROWS=rows,
        GATED=GATED[glu.params.op],
    )
    given: tuple[Argument, ...]
    given = *x.inputs(a), x.padded, b.ne[1], ids, ids.ne, ids.nb
    matrices: tuple[Argument, ...] = a, other, a.ne, a.nb, other.nb
    strides = [y.nb for y in results]
    last = band, *clamps(glu.params), *c.fault
    groups = -(-a.ne[1] // band), ids.nelements
    c.launch(name, groups, *matrices, *given, *results, *strides, *last, local=1)
    return 3


def _of_same(first: Node, other: Node, c: Compiler) -> bool:
    """Whether both are products of the same few rows and choices, by bytes."""
    if other.tensor.op is not Op.MUL_MAT_ID or not c.traits.is_cpu:
        return False
    a, b, ids = first.source(AS), first.source(B), first.source(IDS)
    return (
        a.type in quantized.TYPES
        and other.source(AS).type is a.type
        and other.source(AS).ne == a.ne
        and other.source(B).id == b.id
        and other.source(IDS).id == ids.id
        and ids.nelements // a.ne[2] < MANY
        and _accepts_product(other)
    )


def _times_each(c: Compiler, a: Tensor, b: Tensor, ids: Tensor, y: Tensor) -> None:
    n, chosen = a.ne[1], ids.nelements
    to: tuple[Argument, ...] = ids, ids.ne, ids.nb, y, y.nb
    given: tuple[Argument, ...]
    if a.type in quantized.TYPES:
        x = quantized.quantize_rows(b, c, tile=1)
        rows = quantized.rows_at_once(c, a)
        name = "experts_matvec"
        given = *x.inputs(a), x.padded, b.ne[1]
    else:
        rows = matmul.ROWS
        name = "experts_matvec_float"
        given = b, b.ne, b.nb
    band = quantized.band_of(c, n * chosen, rows)
    launched = c.kernel(name, name, **type_of(c, a), ROWS=rows)
    groups = -(-n // band), chosen
    c.launch(launched, groups, a, a.ne, a.nb, *given, *to, band, *c.fault, local=1)


def _times_groups(
    c: Compiler, a: Tensor, b: Tensor, ids: Tensor, y: Tensor, groups: Groups
) -> None:
    to: tuple[Argument, ...]
    to = groups.starts, groups.ends, groups.places, ids.ne[0], y, y.nb
    given: tuple[Argument, ...]
    if a.type in quantized.TYPES:
        x = _rounded(c, b, ids.ne[0], a.ne[2], groups)
        name, chunk, rows = "experts_matmat", quantized.CHUNK, quantized.PANEL
        given = *x.inputs(a), x.padded
        panel = quantized.panel_of(a)
    else:
        name, chunk, rows = "experts_matmat_float", matmul.CHUNK, matmul.PANEL
        given = b, b.ne, b.nb
        panel = (cl.LocalMemory(4 * rows * chunk),)
    defines = type_of(c, a) | {"TILE": groups.tile, "CHUNK": chunk}
    shape = -(-a.ne[1] // rows), a.ne[2]
    launched = c.kernel(name, name, **defines)
    c.launch(launched, shape, a, a.ne, a.nb, *given, *to, *panel, local=1)


def _rounded(
    c: Compiler, b: Tensor, used: int, experts: int, groups: Groups
) -> QuantizedRows:
    """The rows of b in the order of the groups."""
    x, is_new = quantized.room_for(b, c, groups.tile, groups.room, groups)
    if is_new:
        name = c.kernel("experts_quantize", "experts_rounded", TILE=groups.tile)
        given = b, b.ne, b.nb, groups.starts, groups.places, experts, used, x.padded
        c.launch(name, (groups.room,), *given, *x.outputs, local=1)
    return x


def _grouped(c: Compiler, ids: Tensor, experts: int, tile: int) -> Groups:
    """Once for all products of the same choices."""
    key = "grouped", ids.buffer, ids.data, ids.ne, ids.nb, experts, tile
    return c.shared(key, [ids], lambda: _group(c, ids, experts, tile))


def _group(c: Compiler, ids: Tensor, experts: int, tile: int) -> Groups:
    room = ids.nelements + min(experts, ids.nelements) * (tile - 1)
    room = -(-room // tile) * tile
    sizes = experts + 1, experts, room
    groups = Groups(tile, room, *(c.memory(4 * size) for size in sizes))
    name = c.kernel("experts", "grouped")
    c.launch(name, (1,), ids, ids.ne, ids.nb, experts, *groups, *c.fault)
    return groups


def _accepts_sum(node: Node) -> bool:
    return all(map(dense_f32, (node.source(A), node.source(B), node.tensor)))


@kernel(Op.ADD_ID, accepts=_accepts_sum)
def add_id(node: Node, c: Compiler) -> None:
    """Append y[t, j] = a[t, j] + b[ids[t, j]], a work-group a row."""
    a, b, ids, y = node.source(A), node.source(B), node.source(IDS), node.tensor
    name = c.kernel("experts", "add_id")
    c.launch(
        name,
        (rows_of(y),),
        *(a, b, ids, y, y.ne, a.nb, b.ne, b.nb, ids.nb, y.nb, *c.fault),
    )
