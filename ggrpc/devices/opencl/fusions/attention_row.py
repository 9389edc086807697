"""Fuses the attention of one token: MUL_MAT, SOFT_MAX and MUL_MAT.

If a CONT that joins the heads follows, it is fused too, and so is the quantization of
its result for the next product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ggrpc.devices.opencl.compiler import Argument, Compiler
from ggrpc.devices.opencl.fusions.row_products import quantized_for_next
from ggrpc.devices.opencl.ops import quantized
from ggrpc.devices.opencl.ops.attention import (
    accepts_soft_max,
    alibi_slopes_buffer,
    optional_defines,
)
from ggrpc.devices.opencl.predicates import dense_f32, same_memory
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.attention import SOFT_MAX_MASK, SOFT_MAX_SINKS
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS


class _Pattern(NamedTuple):
    """The nodes of the attention.

    Attributes:
        scores: MUL_MAT of keys and queries.
        weights: SOFT_MAX of the scores.
        sums: MUL_MAT of values and weights.
        joined: CONT of the sums; None if it is missing or cannot be fused.
    """

    scores: Node
    weights: Node
    sums: Node
    joined: Node | None


def attention_row(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT of keys and queries, SOFT_MAX, MUL_MAT of values, and perhaps CONT."""
    pattern = _match(nodes) if c.traits.is_cpu else None
    if pattern is None:
        return 0
    scores, weights, sums, joined = pattern
    k, q, v, y = scores.source(A), scores.source(B), sums.source(A), scores.tensor
    heads = _heads_per_group(y.ne[2], k.ne[2], c.traits.units)
    if not heads:
        return 0
    mask, sinks = weights.src[SOFT_MAX_MASK], weights.src[SOFT_MAX_SINKS]
    defines: dict[str, Define] = {
        **quantized.cpu_defines(c, k),
        **optional_defines(mask, sinks),
        "HEADS": heads,
    }
    mask = mask or q
    arguments: list[Argument] = [k, k.ne, k.nb, q, q.nb, mask, mask.ne, mask.nb]
    arguments += [sinks or q, v, v.ne, v.nb, y, weights.tensor, sums.tensor]
    params = weights.params
    slopes = alibi_slopes_buffer(y.ne[2], params.max_bias, c)
    arguments += [slopes, params.scale]
    if joined:
        defines["JOINED"] = 1
        arguments.append(joined.tensor)
        # Each head's part of the row is quantized separately, so in whole blocks.
        has_whole_blocks = v.ne[1] % quantized.BLOCK == 0
        rest = nodes[4:] if has_whole_blocks else ()
        next_x = quantized_for_next(rest, joined.tensor, c)
        if next_x:
            defines["QUANTIZE"] = 1
            arguments += [next_x.padded, *next_x.outputs]
    kernel = c.kernel("attention_row", "attention_row", **defines)
    c.launch(kernel, (y.ne[2] // heads,), *arguments, local=1)
    return 4 if joined else 3


def _heads_per_group(heads: int, kv_heads: int, units: int) -> int:
    """The number of heads with the same keys and values that a work-group computes.

    Returns:
        0 if there are fewer heads than compute units, because some would be idle.
    """
    shared, most = heads // kv_heads, heads // units
    return max((n for n in (1, 2, 4, 8) if shared % n == 0 and n <= most), default=0)


def _match(nodes: Sequence[Node]) -> _Pattern | None:
    """The pattern at the start of some nodes, if heads can be computed one by one."""
    if len(nodes) < 3 or not _is_attention(*nodes[:3]):
        return None
    scores, weights, sums = nodes[:3]
    s, w, y = scores.tensor, weights.tensor, sums.tensor
    sources = [*scores.src, *weights.src[SOFT_MAX_MASK:], sums.source(A)]
    inputs = [tensor for tensor in sources if tensor is not None]
    # No head may write what other heads still read.
    fits = (
        all(disjoint(x, result) for x in inputs for result in (s, w, y))
        and (same_memory(s, w) or disjoint(s, w))
        and all(disjoint(x, y) for x in (s, w))
    )
    if not fits:
        return None
    joined = nodes[3] if len(nodes) > 3 and _joins_heads(nodes[3], y) else None
    if joined and not all(disjoint(x, joined.tensor) for x in (*inputs, s, w, y)):
        joined = None
    return _Pattern(scores, weights, sums, joined)


def _is_attention(scores: Node, weights: Node, sums: Node) -> bool:
    """Whether three nodes are attention of one token over caches of floats."""
    if weights.tensor.op is not Op.SOFT_MAX or sums.tensor.op is not Op.MUL_MAT:
        return False
    k, q, v = scores.source(A), scores.source(B), sums.source(A)
    results = scores.tensor, weights.tensor, sums.tensor
    return (
        weights.source(A).id == scores.tensor.id
        and sums.source(B).id == weights.tensor.id
        and k.type is v.type
        and k.type in FLOATS
        and all(t.nb[0] == t.type.type_size and t.ne[3] == 1 for t in (k, v))
        and k.ne[2] == v.ne[2]
        and dense_f32(q)
        and (q.ne[1], q.ne[3]) == (1, 1)
        and accepts_soft_max(weights)
        and all(dense_f32(t) and t.is_contiguous for t in results)
    )


def _joins_heads(node: Node, sums: Tensor) -> bool:
    """Whether a node copies the results of all heads to one contiguous row."""
    if node.tensor.op is not Op.CONT:
        return False
    x, y = node.source(A), node.tensor
    return (
        (x.buffer, x.data, x.nelements) == (sums.buffer, sums.data, sums.nelements)
        and x.is_contiguous
        and y.is_contiguous
        and dense_f32(x)
        and dense_f32(y)
    )
