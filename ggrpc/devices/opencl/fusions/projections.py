"""Fuses products of one row with several quantized matrices.

Each layer of a model has these when it decodes a token: the projections to queries,
keys and values, which may have biases; and gate, up, and the GLU of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from ggrpc.devices.opencl.compiler import LOOKAHEAD, Argument, Compiler
from ggrpc.devices.opencl.fusions.row_products import (
    is_row_product,
    quantized_for_next,
)
from ggrpc.devices.opencl.ops import quantized
from ggrpc.devices.opencl.ops.activations import GATED
from ggrpc.devices.opencl.predicates import all_dense_f32, same_memory
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.activations import B as UP
from ggrpc.ops.activations import clamps
from ggrpc.ops.arithmetic import B as BIAS
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor

MAX_MATRICES = 3  # of a launch


def gate_and_up(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT, MUL_MAT of the same row, and the GLU of both.

    If a product of the GLU's result follows, the launch quantizes that result too.
    """
    pair = gate_and_up_of(nodes, _same_row, c) if is_row_product(nodes[0], c) else None
    if pair is None:
        return 0
    (gate, up), glu = pair, nodes[2]
    a, b, y = gate.source(A), up.source(A), glu.tensor
    k, n, _, _ = a.ne
    x = quantized.quantize_rows(gate.source(B), c, tile=1)
    band = quantized.band_of(c, a, n)
    defines = quantized.matvec_defines(c, a)
    outputs: tuple[Argument, ...] = ()
    next_x = quantized_for_next(nodes[3:], y, c, x)
    if next_x:
        defines["QUANTIZE"] = 1
        band = -(-band // quantized.BLOCK) * quantized.BLOCK
        outputs = next_x.padded, *next_x.outputs
    kernel = c.kernel(
        "matvec_several", "matvec_gated", **defines, GATED=GATED[glu.params.op]
    )
    inputs: tuple[Argument, ...] = a, b, a.nb[1], b.nb[1], *x.inputs(a), k, n
    results = gate.tensor, up.tensor, y
    parameters = band, *clamps(glu.params)
    c.launch(
        kernel, (-(-n // band),), *inputs, *results, *parameters, *outputs, local=1
    )
    return 3


def several(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT, and up to two more of the same row that follow soon.

    If a bias is added to each product, the ADDs are fused too.
    """
    if not is_row_product(nodes[0], c):
        return 0
    candidates = (
        nodes[i]
        for i in range(1, min(LOOKAHEAD, len(nodes)))
        if _same_row(nodes[0], nodes[i], c) and c.can_hoist(nodes[:i], nodes[i])
    )
    products = [nodes[0], *islice(candidates, MAX_MATRICES - 1)]
    adds = [add for node in products if (add := _bias_of(node, nodes[:LOOKAHEAD], c))]
    if len(adds) < len(products):
        adds = []
    if len(products) + len(adds) == 1:
        return 0
    _launch_several(products, adds, c)
    for node in (*products[1:], *adds):
        c.mark_hoisted(node)
    return 1


def _launch_several(
    products: Sequence[Node], adds: Sequence[Node], c: Compiler
) -> None:
    a, b = products[0].source(A), products[0].source(B)
    x = quantized.quantize_rows(b, c, tile=1)
    n = [node.source(A).ne[1] for node in products]
    band = quantized.band_of(c, a, sum(n))
    groups = sum(-(-count // band) for count in n)
    matrices = _filled([node.source(A) for node in products])
    results = _filled([node.tensor for node in products])
    strides = matrices[0].nb[1], matrices[1].nb[1], matrices[2].nb[1], 0
    counts = n[0], sum(n[1:2]), sum(n[2:]), 0
    defines = quantized.matvec_defines(c, a) | ({"BIASED": 1} if adds else {})
    kernel = c.kernel("matvec_several", "matvec_several", **defines)
    inputs: tuple[Argument, ...] = strides, *x.inputs(a), a.ne[0], counts
    sums: tuple[Argument, ...] = ()
    if adds:
        biases = _filled([add.source(BIAS) for add in adds])
        sums = *biases, *_filled([add.tensor for add in adds])
    c.launch(kernel, (groups,), *matrices, *inputs, *results, band, *sums, local=1)


def _bias_of(product: Node, nodes: Sequence[Node], c: Compiler) -> Node | None:
    """The node that adds a bias to a product, if it can be computed with it."""
    for at, add in enumerate(nodes):
        if add.tensor.op is Op.ADD and add.source(A).id == product.tensor.id:
            others = [node for node in nodes[:at] if node is not product]
            # The fusions in norms.py compute sums that are normalized.
            is_normalized = any(
                node.tensor.op is Op.RMS_NORM for node in nodes[at + 1 : at + 2]
            )
            fits = (
                not is_normalized
                and _adds_bias(add)
                and disjoint(add.tensor, product.source(A))
                and c.can_hoist(others, add)
            )
            return add if fits else None
    return None


def _adds_bias(add: Node) -> bool:
    """Whether an ADD adds a constant of the same shape, and overwrites no input."""
    y, bias, z = add.source(A), add.source(BIAS), add.tensor
    return (
        bias.op is Op.NONE
        and all_dense_f32(add)
        and y.ne == bias.ne == z.ne
        and (same_memory(y, z) or disjoint(y, z))
        and all(disjoint(bias, t) for t in (y, z))
    )


def _same_row(first: Node, other: Node, c: Compiler) -> bool:
    """Whether a node multiplies the same row, with a matrix of the same type."""
    a, b = first.source(A), other.source(A)
    return (
        is_row_product(other, c)
        and a.type is b.type
        and same_memory(first.source(B), other.source(B))
        and first.source(B).ne == other.source(B).ne
    )


def gate_and_up_of(
    nodes: Sequence[Node],
    same_operand: Callable[[Node, Node, Compiler], bool],
    c: Compiler,
) -> tuple[Node, Node] | None:
    """The gate and up products at the start of some nodes, if their GLU follows.

    Args:
        nodes: the current node and those after it.
        same_operand: whether two products have the same second operand. The GLU may
            overwrite that operand, because it is quantized before.
        c: the compiler.

    Returns:
        None if the first three nodes are not two products and their GLU, or cannot be
        computed element by element.
    """
    if len(nodes) < 3 or nodes[2].tensor.op is not Op.GLU:
        return None
    first, second, glu = nodes[:3]
    if not glu.src[UP] or not same_operand(first, second, c):
        return None
    is_gate_first = glu.source(A).id == first.tensor.id
    gate, up = (first, second) if is_gate_first else (second, first)
    halves, y = [gate.tensor, up.tensor], glu.tensor
    fits = (
        all_dense_f32(glu)
        and [glu.source(A).id, glu.source(UP).id] == [half.id for half in halves]
        and all(half.ne == y.ne for half in halves)
        and c.can_hoist([first], second)
        and all(same_memory(y, half) or disjoint(y, half) for half in halves)
        and all(disjoint(y, t) for node in (gate, up) for t in node.src[::2] if t)
    )
    return (gate, up) if fits else None


def _filled(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Repeat the first tensor up to MAX_MATRICES; the kernel ignores the copies."""
    return [*tensors, *[tensors[0]] * (MAX_MATRICES - len(tensors))]
