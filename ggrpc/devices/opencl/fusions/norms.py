"""Fuses RMS_NORM with the sum before it and the weight after it.

If a product with a quantized matrix follows, the launch also quantizes its own result.
"""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.fusions.row_products import quantized_for_next
from ggrpc.devices.opencl.predicates import all_dense_f32, same_memory
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.arithmetic import A, B
from ggrpc.tensor import Tensor


def norm_and_weight(nodes: Sequence[Node], c: Compiler) -> int:
    """RMS_NORM, and MUL of its result with one row."""
    if len(nodes) < 2 or not _weights(nodes[1], nodes[0]):
        return 0
    norm, mul = nodes[:2]
    x, y, z, weight = norm.source(A), norm.tensor, mul.tensor, mul.source(B)
    eps = norm.params.eps
    if not _launch_quantizing(nodes[2:], c, (), (x, y, weight, z), eps):
        kernel = c.kernel("norms", "rms_norm_mul")
        strides = y.ne, x.nb, y.nb, z.nb
        c.launch(kernel, (y.nrows,), x, y, weight, z, *strides, eps)
    return 2


def sum_norm_and_weight(nodes: Sequence[Node], c: Compiler) -> int:
    """ADD of two tensors of the same shape, and RMS_NORM and MUL of the sum."""
    if len(nodes) < 3 or not _normalizes_sum(nodes[0], nodes[1]):
        return 0
    add, norm, mul = nodes[:3]
    if not _weights(mul, norm):
        return 0
    a, b, weight = add.source(A), add.source(B), mul.source(B)
    x, y, z, eps = add.tensor, norm.tensor, mul.tensor, norm.params.eps
    # Each row of a and b is read before the same row of a result is written.
    stays = (same_memory(t, r) or disjoint(t, r) for t in (a, b) for r in (x, y, z))
    if not all(stays) or not disjoint(weight, x):
        return 0
    if not _launch_quantizing(nodes[3:], c, (a, b), (x, y, weight, z), eps):
        strides = y.ne, a.nb, b.nb, x.nb, y.nb, z.nb
        kernel = c.kernel("norms", "add_rms_norm_mul")
        c.launch(kernel, (y.nrows,), a, b, x, y, weight, z, *strides, eps)
    return 3


def _launch_quantizing(
    rest: Sequence[Node],
    c: Compiler,
    terms: Sequence[Tensor],
    tensors: tuple[Tensor, Tensor, Tensor, Tensor],
    eps: float,
) -> bool:
    """Append a launch that also quantizes its result for the product that follows.

    Args:
        rest: the nodes after the pattern.
        c: the compiler.
        terms: the terms of the sum; empty without ADD.
        tensors: the source and result of RMS_NORM, and the weight and result of MUL.
        eps: the parameter of RMS_NORM.

    Returns:
        False if such a product does not follow; nothing is appended then.
    """
    x, _, _, z = tensors
    quantized = quantized_for_next(rest, z, c)
    if quantized is None:
        return False
    defines = {"SUM": 1} if terms else {}
    kernel = c.kernel("norms_quantize", "norms_quantize", **defines)
    a, b = terms or (x, x)
    parameters = z.ne[0], eps, quantized.padded
    c.launch(kernel, (1,), a, b, *tensors, *parameters, *quantized.outputs, local=1)
    return True


def _normalizes_sum(add: Node, norm: Node) -> bool:
    """Whether a node is RMS_NORM of a sum of two tensors of the same shape."""
    x = add.tensor
    return (
        norm.tensor.op is Op.RMS_NORM
        and all_dense_f32(add)
        and all_dense_f32(norm)
        and add.source(B).ne == x.ne
        and norm.source(A).id == x.id
    )


def _weights(mul: Node, norm: Node) -> bool:
    """Whether a node multiplies the result of RMS_NORM with one row, row by row."""
    if mul.tensor.op is not Op.MUL or not all_dense_f32(mul):
        return False
    x, y, z = norm.source(A), norm.tensor, mul.tensor
    weight = mul.source(B)
    return (
        mul.source(A).id == y.id
        and mul.source(A).nb == y.nb
        and weight.ne == (y.ne[0], 1, 1, 1)
        and disjoint(weight, y)
        and disjoint(weight, z)
        and all(same_memory(x, r) or disjoint(x, r) for r in (y, z))
    )
