"""ROPE, with one table of cosines and sines for all nodes of the same positions."""

from __future__ import annotations

import numpy as np
import pyopencl as cl

from ggrpc.devices.cpu.rope import interpolation, magnitude, pairs, sections
from ggrpc.devices.opencl.dense import all_dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.rope import FREQ_FACTORS, POS, A, RopeMode, RopeParams


def _accepts(node: Node) -> bool:
    a, factors = node.source(A), node.src[FREQ_FACTORS]
    return all_dense_f32(Node(node.tensor, (a, factors), node.params))


@kernel(Op.ROPE, accepts=_accepts)
def rope(node: Node, c: Compiler) -> None:
    """Append the turns of each row: a work-group a row."""
    p: RopeParams = node.params
    x, y = node.source(A), node.tensor
    table = _table(node, c)
    name = "neighbours" if p.mode == RopeMode.NORMAL else "halves"
    c.launch(
        c.kernel("rope", name),
        (rows_of(y),),
        *(x, y, table, y.ne, x.nb, y.nb, pairs(p), p.n_offs),
    )


def _table(node: Node, c: Compiler) -> cl.Buffer:
    """cos and sin of each token and pair: float32 (tokens, 2, pairs)."""
    pos, factors = node.source(POS), node.src[FREQ_FACTORS]
    key = pos.id, factors and factors.id, node.params._replace(n_offs=0)
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
