"""RMS_NORM, NORM and L2_NORM.

RMS_NORM can be fused with the sum before it, with the weight after it, and with the
quantization for the next product.
"""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.fusions import projections
from ggrpc.devices.opencl.ops.predicates import (
    all_dense_f32,
    disjoint,
    rows_of,
    same_memory,
)
from ggrpc.devices.opencl.program import Compiler, fuser, kernel
from ggrpc.ops import Node, Op
from ggrpc.tensor import Tensor


@kernel(Op.RMS_NORM, Op.NORM, Op.L2_NORM, accepts=all_dense_f32)
def norm(node: Node, c: Compiler) -> None:
    """Append the normalisation, a work-group a row."""
    x, y = node.source(0), node.tensor
    name = c.kernel("norms", y.op.name.lower())
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb, node.params.eps)


@fuser(Op.RMS_NORM)
def norm_and_weight(nodes: Sequence[Node], c: Compiler) -> int:
    """RMS_NORM and a MUL of its result with one row."""
    if len(nodes) < 2 or not _weighs(nodes[1], nodes[0]):
        return 0
    norm, mul = nodes[:2]
    x, y, z, weight = norm.source(0), norm.tensor, mul.tensor, mul.source(1)
    eps = norm.params.eps
    if not _round(nodes[2:], c, (), x, y, weight, z, eps):
        name = c.kernel("norms", "rms_norm_mul")
        c.launch(name, (rows_of(y),), x, y, weight, z, y.ne, x.nb, y.nb, z.nb, eps)
    return 2


@fuser(Op.ADD)
def sum_norm_and_weight(nodes: Sequence[Node], c: Compiler) -> int:
    """ADD of two tensors of the same shape, and the RMS_NORM and MUL of the sum."""
    if len(nodes) < 3 or not _sums(nodes[0], nodes[1]) or not _weighs(*nodes[2:0:-1]):
        return 0
    add, norm, mul = nodes[:3]
    a, b, weight = add.source(0), add.source(1), mul.source(1)
    x, y, z, eps = add.tensor, norm.tensor, mul.tensor, norm.params.eps
    terms_stay = (
        same_memory(t, r) or disjoint(t, r) for t in (a, b) for r in (x, y, z)
    )
    if not all(terms_stay) or not disjoint(weight, x):
        return 0
    if not _round(nodes[3:], c, (a, b), x, y, weight, z, eps):
        strides = y.ne, a.nb, b.nb, x.nb, y.nb, z.nb
        name = c.kernel("norms", "add_rms_norm_mul")
        c.launch(name, (rows_of(y),), a, b, x, y, weight, z, *strides, eps)
    return 3


def _round(
    rest: Sequence[Node],
    c: Compiler,
    terms: Sequence[Tensor],
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    z: Tensor,
    eps: float,
) -> bool:
    """Launch it with the rounding of z where that is the next that a product needs."""
    rounded = projections.quantized_for_next(rest, z, c)
    if rounded is None:
        return False
    name = c.kernel("norms_quantize", "norms_rounded", **({"SUM": 1} if terms else {}))
    a, b = terms or (x, x)
    given = z.ne[0], eps, rounded.padded
    c.launch(name, (1,), a, b, x, y, weight, z, *given, *rounded.outputs, local=1)
    return True


def _sums(add: Node, norm: Node) -> bool:
    """Whether a norm is of the sum, whose terms are as large as it is."""
    x = add.tensor
    return (
        norm.tensor.op is Op.RMS_NORM
        and all_dense_f32(add)
        and all_dense_f32(norm)
        and add.source(1).ne == x.ne
        and norm.source(0).id == x.id
    )


def _weighs(node: Node, norm: Node) -> bool:
    if node.tensor.op is not Op.MUL or not all_dense_f32(node):
        return False
    x, y, z = norm.source(0), norm.tensor, node.tensor
    weight = node.source(1)
    return (
        node.source(0).id == y.id
        and node.source(0).nb == y.nb
        and weight.ne == (y.ne[0], 1, 1, 1)
        and disjoint(weight, y)
        and disjoint(weight, z)
        and all(same_memory(x, r) or disjoint(x, r) for r in (y, z))
    )
