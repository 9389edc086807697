"""ROPE.

Nodes with the same positions share one table of cosines and sines. ROPE can be fused
with the SET_ROWS that writes rotated keys into the KV cache.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.ops.copies import sets_alike, types_set, what_is_set
from ggrpc.devices.opencl.ops.predicates import all_dense_f32, disjoint, rows_of
from ggrpc.devices.opencl.program import LOOKAHEAD, Argument, Compiler, fuser, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.copies import ROWS
from ggrpc.ops.rope import (
    FREQ_FACTORS,
    POS,
    A,
    RopeMode,
    RopeParams,
    interpolation,
    magnitude,
    pairs,
    sections,
)
from ggrpc.tensor import Tensor


def _accepts(node: Node) -> bool:
    a, factors = node.source(A), node.src[FREQ_FACTORS]
    return all_dense_f32(Node(node.tensor, (a, factors), node.params))


@kernel(Op.ROPE, accepts=_accepts)
def rope(node: Node, c: Compiler) -> None:
    """Append the turns of each row: a work-group a row."""
    p: RopeParams = node.params
    x, y = node.source(A), node.tensor
    table = _table(node, c)
    c.launch(
        c.kernel("rope", _name(p)),
        (rows_of(y),),
        *(x, y, table, y.ne, x.nb, y.nb, pairs(p), p.n_offs),
    )


@fuser(Op.ROPE)
def two_ropes(nodes: Sequence[Node], c: Compiler) -> int:
    """ROPE of the queries, and of the keys that follow soon, by the same angles.

    Where SET_ROWS put these and the values into caches, those too.
    """
    node = nodes[0]
    for at in range(1, min(LOOKAHEAD, len(nodes))):
        if _turns_alike(node, nodes[at]) and c.can_hoist(nodes[:at], nodes[at]):
            break
    else:
        return 0
    keys = nodes[at]
    x, y, v, w = node.source(A), node.tensor, keys.source(A), keys.tensor
    table, p = _table(node, c), node.params
    strides = y.ne, x.nb, y.nb, w.ne, v.nb, w.nb
    given: tuple[Argument, ...] = x, y, v, w, table, *strides, pairs(p), p.n_offs
    rows = rows_of(y) + rows_of(w)
    sets = _sets_of(keys, nodes[:LOOKAHEAD], c)
    if sets:
        first, second = (nodes[place] for place in sets)
        given += *what_is_set(_by_heads(first, w)), *what_is_set(second)
        given += c.fault[0], *map(c.number_of, sets)
        rows += rows_of(second.source(ROWS))
        name = c.kernel("rope_cached", _name(p), **types_set(first))
    else:
        name = c.kernel("rope", f"{_name(p)}_two")
    c.launch(name, (rows,), *given)
    for place in (at, *sets):
        c.mark_hoisted(nodes[place])
    return 1


def _sets_of(keys: Node, nodes: Sequence[Node], c: Compiler) -> Sequence[int]:
    """Where SET_ROWS of turned keys and of values are, if both may come at once."""
    places = [i for i, node in enumerate(nodes) if node.tensor.op is Op.SET_ROWS][:2]
    if len(places) < 2:
        return ()
    first, second = (nodes[place] for place in places)
    before = [node for node in nodes[: places[0]] if node is not keys]
    fits = (
        sets_alike(first, second)
        and _sets_tokens(first, keys.tensor)
        and all(disjoint(first.tensor, t) for t in (keys.tensor, keys.source(A)))
        and c.can_hoist(before, first)
        and c.can_hoist(nodes[: places[1]], second)
    )
    return places if fits else ()


def _sets_tokens(node: Node, keys: Tensor) -> bool:
    """Whether a row that it sets is all heads of a token, one behind the other."""
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
    """The same, with a row for each token of each head."""
    size, heads, tokens, _ = keys.ne
    y, (_, row, _, _) = node.tensor, keys.nb
    x = keys._replace(ne=(size, tokens, heads, 1), nb=(4, keys.nb[2], row, keys.nb[3]))
    part = y.type.row_size(size)
    y = y._replace(ne=(size, y.ne[1], heads, 1), nb=(y.nb[0], y.nb[1], part, y.nb[3]))
    return node._replace(tensor=y, src=(x, *node.src[1:]))


def _turns_alike(node: Node, other: Node) -> bool:
    return (
        other.tensor.op is Op.ROPE
        and other.params == node.params
        and other.source(POS).id == node.source(POS).id
        and _id(other.src[FREQ_FACTORS]) == _id(node.src[FREQ_FACTORS])
        and 0 not in other.tensor.ne
        and _accepts(other)
    )


def _id(tensor: Tensor | None) -> int:
    return tensor.id if tensor else 0


def _name(p: RopeParams) -> str:
    return "neighbours" if p.mode == RopeMode.NORMAL else "halves"


def _table(node: Node, c: Compiler) -> cl.Buffer:
    """Cos and sin of each token and pair: float32 (tokens, 2, pairs)."""
    pos, factors = node.source(POS), node.src[FREQ_FACTORS]
    key = pos.id, _id(factors), node.params._replace(n_offs=0)
    tensors = [tensor for tensor in (pos, factors) if tensor is not None]
    return c.shared(key, tensors, lambda: _make_table(node, c))


def _make_table(node: Node, c: Compiler) -> cl.Buffer:
    p: RopeParams = node.params
    pos, factors = node.source(POS), node.src[FREQ_FACTORS]
    count, tokens = pairs(p), pos.ne[0] // p.positions
    table = c.memory(8 * count * tokens)
    # For each pair: which position turns it and by which power; what YaRN makes of it.
    where = [(0, pair) for pair in range(count)]
    if p.positions > 1:
        where = sections(p, count)
    scales = np.broadcast_to(interpolation(p, count), count).astype(np.float32)
    with np.errstate(all="ignore"):
        step = float(np.power(np.float64(p.freq_base), -2 / p.n_dims))
    c.launch(
        c.kernel("rope", "angles"),
        (tokens,),
        *(pos, factors or pos, int(factors is not None), table),
        *(c.constant(np.array(where, np.int32)), c.constant(scales)),
        *(count, tokens, step, float(magnitude(p))),
        local=1,
    )
    return table
