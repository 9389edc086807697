"""Fusions of several nodes into one launch, and the table of all of them.

A fusion receives a node of its op and the nodes after it that have kernels too. Every
node that it computes must get its own result, because the client may read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ggrpc.devices.opencl.compiler import Fusion
from ggrpc.devices.opencl.fusions import (
    attention_row,
    experts,
    kv_cache,
    norms,
    projections,
    rope,
    sums,
)
from ggrpc.op import Op

# The fusions to try for the op of a pattern's first node, in this order.
FUSIONS: Mapping[Op, Sequence[Fusion]] = {
    Op.MUL_MAT: (
        projections.gate_and_up,
        projections.several,
        attention_row.attention_row,
    ),
    Op.ADD: (sums.sum_tensors, norms.sum_norm_and_weight),
    Op.SET_ROWS: (kv_cache.set_two,),
    Op.MUL_MAT_ID: (experts.gate_and_up,),
    Op.RMS_NORM: (norms.norm_and_weight,),
    Op.ROPE: (rope.two_ropes,),
}
