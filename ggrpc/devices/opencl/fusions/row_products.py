"""Recognizes products of one row with a quantized matrix, for several fusions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.ops import quantized
from ggrpc.devices.opencl.ops.quantized import QuantizedRows
from ggrpc.devices.opencl.predicates import dense_f32, same_memory
from ggrpc.ops import Node, Op
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor


def is_row_product(node: Node, c: Compiler) -> bool:
    """Whether a node multiplies one row with one quantized matrix, on a CPU."""
    if node.tensor.op is not Op.MUL_MAT or not c.traits.is_cpu:
        return False
    a, b = node.source(A), node.source(B)
    return (
        a.type in quantized.TYPES
        and a.ne[2:] == (1, 1)
        and dense_f32(b)
        and b.nrows == 1
        and dense_f32(node.tensor)
    )


def quantized_for_next(
    nodes: Sequence[Node],
    row: Tensor,
    c: Compiler,
    inputs: QuantizedRows | None = None,
) -> QuantizedRows | None:
    """The memory in which the current launch can quantize its result for a product.

    Args:
        nodes: the nodes after the ones that the launch computes.
        row: the result, one row.
        c: the compiler.
        inputs: the quantized rows that the launch reads.

    Returns:
        None if the next node is not a product of exactly this row with a quantized
        matrix, or if the row would overwrite the inputs.
    """
    if not nodes or not is_row_product(nodes[0], c):
        return None
    b = nodes[0].source(B)
    if not same_memory(b, row) or b.ne != row.ne:
        return None
    claim = partial(quantized.memory_for, b, c, 1, 1)
    outputs, _ = claim()
    if inputs and outputs.values is inputs.values:
        return None
    # The launch overwrites the row, which drops the claim. Claim it again afterwards.
    c.defer(claim)
    return outputs
