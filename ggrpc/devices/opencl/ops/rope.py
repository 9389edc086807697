"""Launches for ROPE; nodes with the same angles share a table of cosines and sines."""

from __future__ import annotations

import numpy as np
import pyopencl as cl

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32
from ggrpc.ops import Node, Op
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


def accepts(node: Node) -> bool:
    """Whether the kernel can compute a ROPE."""
    a, factors = node.source(A), node.src[FREQ_FACTORS]
    return all_dense_f32(Node(node.tensor, (a, factors), node.params))


@kernel(Op.ROPE, accepts=accepts)
def rope(node: Node, c: Compiler) -> None:
    """Append the rotation of each row, one work-group per row."""
    p: RopeParams = node.params
    x, y = node.source(A), node.tensor
    table = angle_table(node, c)
    c.launch(
        c.kernel("rope", kernel_name(p)),
        (y.nrows,),
        *(x, y, table, y.ne, x.nb, y.nb, pairs(p), p.n_offs),
    )


def kernel_name(p: RopeParams) -> str:
    """The kernel that pairs elements as a mode does; all other modes pair like NEOX."""
    return "normal" if p.mode == RopeMode.NORMAL else "neox"


def angle_table(node: Node, c: Compiler) -> cl.Buffer:
    """Append the cosines and sines of a ROPE, if no earlier node has the same.

    Returns:
        float32 (tokens, 2, pairs).
    """
    pos, factors = node.source(POS), node.src[FREQ_FACTORS]
    key = pos.id, factors.id if factors else None, node.params._replace(n_offs=0)
    tensors = [tensor for tensor in (pos, factors) if tensor is not None]
    return c.shared(key, tensors, lambda: _make_table(node, c))


def _make_table(node: Node, c: Compiler) -> cl.Buffer:
    p: RopeParams = node.params
    pos, factors = node.source(POS), node.src[FREQ_FACTORS]
    count, tokens = pairs(p), pos.ne[0] // p.positions
    table = c.memory(8 * count * tokens)
    # For each pair: the index of its position, and the power of the base frequency.
    powers = [(0, pair) for pair in range(count)]
    if p.positions > 1:
        powers = sections(p, count)
    scales = np.broadcast_to(interpolation(p, count), count).astype(np.float32)
    with np.errstate(all="ignore"):
        step = float(np.power(np.float64(p.freq_base), -2 / p.n_dims))
    c.launch(
        c.kernel("rope", "angles"),
        (tokens,),
        *(pos, factors or pos, int(factors is not None), table),
        *(c.constant(np.array(powers, np.int32)), c.constant(scales)),
        *(count, tokens, step, float(magnitude(p))),
        local=1,
    )
    return table
