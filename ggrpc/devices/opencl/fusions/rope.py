"""Fuses ROPE of queries and of keys, and SET_ROWS that fill the KV cache."""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.compiler import LOOKAHEAD, Argument, Compiler
from ggrpc.devices.opencl.ops.copies import (
    set_rows_arguments,
    set_rows_defines,
    share_set_rows,
)
from ggrpc.devices.opencl.ops.rope import accepts, angle_table, kernel_name
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.copies import ROWS
from ggrpc.ops.rope import FREQ_FACTORS, POS, A, pairs
from ggrpc.tensor import Tensor


def two_ropes(nodes: Sequence[Node], c: Compiler) -> int:
    """ROPE of the queries, and ROPE of the keys by the same angles that follows soon.

    If SET_ROWS of the keys and of the values follow, they are fused too.
    """
    at = _next_rope(nodes, c)
    if not at:
        return 0
    node, keys = nodes[0], nodes[at]
    x, y, v, w = node.source(A), node.tensor, keys.source(A), keys.tensor
    table, p = angle_table(node, c), node.params
    arguments: tuple[Argument, ...] = x, y, v, w, table
    arguments += y.ne, x.nb, y.nb, w.ne, v.nb, w.nb, pairs(p), p.n_offs
    rows = y.nrows + w.nrows
    sets = _cache_writes(keys, nodes[:LOOKAHEAD], c)
    if sets:
        first, second = (nodes[place] for place in sets)
        arguments += set_rows_arguments(_by_heads(first, w))
        arguments += set_rows_arguments(second)
        arguments += c.fault[0], *map(c.number_of, sets)
        rows += second.source(ROWS).nrows
        kernel = c.kernel("rope_cached", kernel_name(p), **set_rows_defines(first))
    else:
        kernel = c.kernel("rope", f"{kernel_name(p)}_two")
    c.launch(kernel, (rows,), *arguments)
    for place in (at, *sets):
        c.mark_hoisted(nodes[place])
    return 1


def _next_rope(nodes: Sequence[Node], c: Compiler) -> int:
    """The index of a later ROPE by the same angles that can be hoisted; 0 for none."""
    near = range(1, min(LOOKAHEAD, len(nodes)))
    fitting = (
        i
        for i in near
        if _same_angles(nodes[0], nodes[i]) and c.can_hoist(nodes[:i], nodes[i])
    )
    return next(fitting, 0)


def _cache_writes(keys: Node, nodes: Sequence[Node], c: Compiler) -> Sequence[int]:
    """The indices of the SET_ROWS of rotated keys and of values.

    Returns:
        Nothing if they cannot be computed together with the ROPE.
    """
    places = [i for i, node in enumerate(nodes) if node.tensor.op is Op.SET_ROWS][:2]
    if len(places) < 2:
        return ()
    first, second = (nodes[place] for place in places)
    before = [node for node in nodes[: places[0]] if node is not keys]
    fits = (
        share_set_rows(first, second)
        and _sets_tokens(first, keys.tensor)
        and all(disjoint(first.tensor, t) for t in (keys.tensor, keys.source(A)))
        and c.can_hoist(before, first)
        and c.can_hoist(nodes[: places[1]], second)
    )
    return places if fits else ()


def _sets_tokens(node: Node, keys: Tensor) -> bool:
    """Whether each row that a SET_ROWS writes is all heads of one token's keys."""
    x, (size, heads, tokens, more) = node.source(ROWS), keys.ne
    return (
        more == 1
        and x.ne == (size * heads, tokens, 1, 1)
        and (x.buffer, x.data) == (keys.buffer, keys.data)
        and x.is_contiguous
        and keys.is_contiguous
        and size % node.tensor.type.blck_size == 0
        and node.tensor.nb[0] == node.tensor.type.type_size
    )


def _by_heads(node: Node, keys: Tensor) -> Node:
    """The same SET_ROWS with one row for each token of each head."""
    size, heads, tokens, _ = keys.ne
    y, (_, row, _, _) = node.tensor, keys.nb
    x = keys._replace(ne=(size, tokens, heads, 1), nb=(4, keys.nb[2], row, keys.nb[3]))
    part = y.type.row_size(size)
    y = y._replace(ne=(size, y.ne[1], heads, 1), nb=(y.nb[0], y.nb[1], part, y.nb[3]))
    return node._replace(tensor=y, src=(x, *node.src[1:]))


def _same_angles(node: Node, other: Node) -> bool:
    return (
        other.tensor.op is Op.ROPE
        and other.params == node.params
        and other.source(POS).id == node.source(POS).id
        and _factors_id(other) == _factors_id(node)
        and 0 not in other.tensor.ne
        and accepts(other)
    )


def _factors_id(node: Node) -> int | None:
    factors = node.src[FREQ_FACTORS]
    return factors.id if factors else None
