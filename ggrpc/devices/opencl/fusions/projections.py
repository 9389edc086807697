"""Products of one row with several quantized matrices, in one launch.

Decoding has them in each layer: queries, keys and values, maybe with biases; and a
gate, what it gates, and the GLU of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from ggrpc.devices.opencl.ops import quantized
from ggrpc.devices.opencl.ops.activations import GATED
from ggrpc.devices.opencl.ops.predicates import (
    all_dense_f32,
    dense_f32,
    disjoint,
    rows_of,
    same_memory,
)
from ggrpc.devices.opencl.ops.quantized import QuantizedRows
from ggrpc.devices.opencl.program import LOOKAHEAD, Argument, Compiler, fuser
from ggrpc.ops import Node, Op
from ggrpc.ops.activations import B as UP
from ggrpc.ops.activations import clamps
from ggrpc.ops.arithmetic import B as BIAS
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor

MAX = 3  # matrices of a launch

Alike = Callable[[Node, Node, Compiler], bool]
Halves = tuple[Node, Node]


@fuser(Op.MUL_MAT)
def gate_and_up(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT, MUL_MAT of the same row, and the GLU of both.

    Where the next product is with that, its rounding too.
    """
    halves = halves_of(nodes, _of_same, c) if _multiplies_row(nodes[0], c) else None
    if halves is None:
        return 0
    (gate, up), glu = halves, nodes[2]
    a, b, y = gate.source(A), up.source(A), glu.tensor
    k, n, _, _ = a.ne
    x = quantized.quantize_rows(gate.source(B), c, tile=1)
    rows = quantized.rows_at_once(c, a)
    band = quantized.band_of(c, n, rows)
    defines = quantized.type_of(c, a) | {"ROWS": rows}
    given: tuple[Argument, ...] = ()
    rounded = quantized_for_next(nodes[3:], y, c, x)
    if rounded:
        defines["ROUNDED"] = 1
        band = -(-band // quantized.BLOCK) * quantized.BLOCK
        given = rounded.padded, *rounded.outputs
    name = c.kernel(
        "matvec_several", "matvec_gated", **defines, GATED=GATED[glu.params.op]
    )
    read: tuple[Argument, ...] = a, b, a.nb[1], b.nb[1], *x.inputs(a), k, n
    results = gate.tensor, up.tensor, y
    clamped = clamps(glu.params)
    c.launch(name, (-(-n // band),), *read, *results, band, *clamped, *given, local=1)
    return 3


@fuser(Op.MUL_MAT)
def several(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT, and others of the same row that follow soon.

    Where each has a bias, the ADDs of these too.
    """
    if not _multiplies_row(nodes[0], c):
        return 0
    near = range(1, min(LOOKAHEAD, len(nodes)))
    fitting = (
        nodes[i]
        for i in near
        if _of_same(nodes[0], nodes[i], c) and c.can_hoist(nodes[:i], nodes[i])
    )
    taken = [nodes[0], *islice(fitting, MAX - 1)]
    adds = [add for node in taken if (add := _bias_of(node, nodes[:LOOKAHEAD], c))]
    if len(adds) < len(taken):
        adds = []
    if len(taken) + len(adds) == 1:
        return 0
    _launch_several(taken, adds, c)
    for node in (*taken[1:], *adds):
        c.mark_hoisted(node)
    return 1


def _launch_several(taken: Sequence[Node], adds: Sequence[Node], c: Compiler) -> None:
    a, b = taken[0].source(A), taken[0].source(B)
    x = quantized.quantize_rows(b, c, tile=1)
    rows = quantized.rows_at_once(c, a)
    n = [node.source(A).ne[1] for node in taken]
    band = quantized.band_of(c, sum(n), rows)
    groups = sum(-(-each // band) for each in n)
    matrices = _filled([node.source(A) for node in taken])
    results = _filled([node.tensor for node in taken])
    strides = matrices[0].nb[1], matrices[1].nb[1], matrices[2].nb[1], 0
    counts = n[0], sum(n[1:2]), sum(n[2:]), 0
    defines = quantized.type_of(c, a) | ({"BIASED": 1} if adds else {})
    name = c.kernel("matvec_several", "matvec_several", **defines, ROWS=rows)
    given: tuple[Argument, ...] = strides, *x.inputs(a), a.ne[0], counts
    sums: tuple[Argument, ...] = ()
    if adds:
        biases = _filled([add.source(BIAS) for add in adds])
        sums = *biases, *_filled([add.tensor for add in adds])
    c.launch(name, (groups,), *matrices, *given, *results, band, *sums, local=1)


def _bias_of(product: Node, nodes: Sequence[Node], c: Compiler) -> Node | None:
    """The ADD of a bias to a product among some nodes, where it may come at once."""
    for at, add in enumerate(nodes):
        if add.tensor.op is Op.ADD and add.source(A).id == product.tensor.id:
            y, bias, z = product.tensor, add.source(BIAS), add.tensor
            others = [node for node in nodes[:at] if node is not product]
            rest = nodes[at + 1 : at + 2]
            fits = (
                bias.op is Op.NONE
                # A sum that is normalised is computed with its norm.
                and not (rest and rest[0].tensor.op is Op.RMS_NORM)
                and all_dense_f32(add)
                and y.ne == bias.ne == z.ne
                and (same_memory(y, z) or disjoint(y, z))
                and all(disjoint(bias, t) for t in (y, z))
                and c.can_hoist(others, add)
            )
            return add if fits else None
    return None


def quantized_for_next(
    nodes: Sequence[Node], row: Tensor, c: Compiler, read: QuantizedRows | None = None
) -> QuantizedRows | None:
    """Where the launch at hand leaves a row of its results rounded.

    Args:
        nodes: those that follow.
        row: of results.
        c: the compiler.
        read: rounded rows that the launch still reads.

    Returns:
        None where the first node that follows does not multiply just this row by bytes,
        or the row would lie where others are read.
    """
    if not nodes or not _multiplies_row(nodes[0], c):
        return None
    b = nodes[0].source(B)
    if not same_memory(b, row) or b.ne != row.ne:
        return None
    room = partial(quantized.room_for, b, c, 1, 1)
    rounded, _ = room()
    if read and rounded.numbers is read.numbers:
        return None
    c.defer(room)
    return rounded


def _multiplies_row(node: Node, c: Compiler) -> bool:
    """Whether it is one row times one quantized matrix, on a processor."""
    if node.tensor.op is not Op.MUL_MAT or not c.traits.is_cpu:
        return False
    a, b = node.source(A), node.source(B)
    return (
        a.type in quantized.TYPES
        and a.ne[2:] == (1, 1)
        and dense_f32(b)
        and rows_of(b) == 1
        and dense_f32(node.tensor)
    )


def _of_same(first: Node, other: Node, c: Compiler) -> bool:
    """Whether it multiplies the same row, by a matrix of the same type."""
    a, b = first.source(A), other.source(A)
    return (
        _multiplies_row(other, c)
        and a.type is b.type
        and same_memory(first.source(B), other.source(B))
        and first.source(B).ne == other.source(B).ne
    )


def halves_of(nodes: Sequence[Node], alike: Alike, c: Compiler) -> Halves | None:
    """The gate and what it gates, where the third node is the GLU of the first two.

    Args:
        nodes: those to come.
        alike: whether two of them multiply the same.
        c: the compiler.

    Their rows may lie where the result goes: they are rounded before.
    """
    if len(nodes) < 3 or nodes[2].tensor.op is not Op.GLU:
        return None
    first, second, glu = nodes[:3]
    if not glu.src[UP] or not alike(first, second, c):
        return None
    gates = glu.source(A).id == first.tensor.id
    gate, up = (first, second) if gates else (second, first)
    used, y = [gate.tensor, up.tensor], glu.tensor
    fits = (
        all_dense_f32(glu)
        and [glu.source(A).id, glu.source(UP).id] == [half.id for half in used]
        and all(half.ne == y.ne for half in used)
        and c.can_hoist([first], second)
        and all(same_memory(y, half) or disjoint(y, half) for half in used)
        and all(disjoint(y, t) for node in (gate, up) for t in node.src[::2] if t)
    )
    return (gate, up) if fits else None


def _filled(tensors: Sequence[Tensor]) -> list[Tensor]:
    """As many as a launch takes; it does not touch what is added."""
    return [*tensors, *[tensors[0]] * (MAX - len(tensors))]
