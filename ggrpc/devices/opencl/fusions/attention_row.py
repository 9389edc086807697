"""Attention of one token that comes as MUL_MAT, SOFT_MAX and MUL_MAT, in one launch.

Where CONT puts the heads side by side it is part of that, and so is the rounding of
what it gives for the product that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ggrpc.devices.opencl.fusions import projections
from ggrpc.devices.opencl.ops import quantized
from ggrpc.devices.opencl.ops.attention import (
    accepts_soft_max,
    alibi_slopes_buffer,
    extras_of,
)
from ggrpc.devices.opencl.ops.predicates import dense_f32, disjoint, same_memory
from ggrpc.devices.opencl.program import Argument, Compiler, fuser
from ggrpc.devices.opencl.runtime.build import Define
from ggrpc.ops import Node, Op
from ggrpc.ops.attention import SOFT_MAX_MASK, SOFT_MAX_SINKS
from ggrpc.ops.matmul import A, B
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS


class _Steps(NamedTuple):
    """The nodes, of which the last may be missing."""

    scores: Node
    weights: Node
    sums: Node
    joined: Node | None


@fuser(Op.MUL_MAT)
def attention_row(nodes: Sequence[Node], c: Compiler) -> int:
    """MUL_MAT of keys and queries, SOFT_MAX, MUL_MAT of values, and CONT."""
    steps = _steps_of(nodes) if c.traits.is_cpu else None
    if steps is None:
        return 0
    count = len(steps) - steps.count(None)
    scores, weights, sums, joined = steps
    k, q, v, y = scores.source(A), scores.source(B), sums.source(A), scores.tensor
    heads = _heads_at_once(y.ne[2], k.ne[2], c.traits.units)
    if not heads:
        return 0
    mask, sinks = weights.src[SOFT_MAX_MASK], weights.src[SOFT_MAX_SINKS]
    defines: dict[str, Define] = {**quantized.type_of(c, k), **extras_of(mask, sinks)}
    mask = mask or q
    given: list[Argument] = [k, k.ne, k.nb, q, q.nb, mask, mask.ne, mask.nb, sinks or q]
    given += [v, v.ne, v.nb, y, weights.tensor, sums.tensor]
    params = weights.params
    given += [alibi_slopes_buffer(y.ne[2], params.max_bias, c), params.scale]
    if joined:
        defines["JOINED"] = 1
        given.append(joined.tensor)
        whole = v.ne[1] % quantized.BLOCK == 0
        rest = nodes[count:] if whole else ()
        rounded = projections.quantized_for_next(rest, joined.tensor, c)
        if rounded:
            defines["ROUNDED"] = 1
            given += [rounded.padded, *rounded.outputs]
    name = c.kernel("attention_row", "attention_row", **defines, HEADS=heads)
    c.launch(name, (y.ne[2] // heads,), *given, local=1)
    return count


def _heads_at_once(heads: int, matrices: int, units: int) -> int:
    """How many heads, of the same keys, a work-group has; 0: some would have none."""
    of_same, most = heads // matrices, heads // units
    return max((n for n in (1, 2, 4, 8) if of_same % n == 0 and n <= most), default=0)


def _steps_of(nodes: Sequence[Node]) -> _Steps | None:
    """The first of some nodes, where they are all that and may be done head by head."""
    if len(nodes) < 3 or not _follow(*nodes[:3]):
        return None
    scores, weights, sums = nodes[:3]
    s, w, y = scores.tensor, weights.tensor, sums.tensor
    # A head must not write where others still read.
    read = [*scores.src, *weights.src[SOFT_MAX_MASK:], sums.source(A)]
    inputs = [tensor for tensor in read if tensor is not None]
    fits = (
        all(disjoint(x, result) for x in inputs for result in (s, w, y))
        and (same_memory(s, w) or disjoint(s, w))
        and all(disjoint(x, y) for x in (s, w))
    )
    if not fits:
        return None
    joined = nodes[3] if len(nodes) > 3 and _joins(nodes[3], y) else None
    if joined and not all(disjoint(x, joined.tensor) for x in (*inputs, s, w, y)):
        joined = None
    return _Steps(scores, weights, sums, joined)


def _follow(scores: Node, weights: Node, sums: Node) -> bool:
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


def _joins(node: Node, sums: Tensor) -> bool:
    """Whether it copies what all heads have, one behind the other."""
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
