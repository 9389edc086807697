"""ROPE, with one table of cosines and sines for all nodes of the same positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyopencl as cl

from ggrpc.devices.cpu.rope import interpolation, magnitude, pairs, sections
from ggrpc.devices.opencl.dense import all_dense_f32, rows_of
from ggrpc.devices.opencl.program import AHEAD, Compiler, fuser, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.rope import FREQ_FACTORS, POS, A, RopeMode, RopeParams
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
    """ROPE of the queries, and of the keys that follow soon, by the same angles."""
    node = nodes[0]
    for at in range(1, min(AHEAD, len(nodes))):
        if _turns_alike(node, nodes[at]) and c.may_come_first(nodes[:at], nodes[at]):
            break
    else:
        return 0
    other = nodes[at]
    x, y, v, w = node.source(A), node.tensor, other.source(A), other.tensor
    table, p = _table(node, c), node.params
    strides = y.ne, x.nb, y.nb, w.ne, v.nb, w.nb
    name = c.kernel("rope", f"{_name(p)}_two")
    rows = rows_of(y) + rows_of(w)
    c.launch(name, (rows,), x, y, v, w, table, *strides, pairs(p), p.n_offs)
    c.comes_early(other)
    return 1


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
    """cos and sin of each token and pair: float32 (tokens, 2, pairs)."""
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
