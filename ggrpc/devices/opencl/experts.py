"""ADD_ID: to each row one that its token has chosen."""

from __future__ import annotations

from ggrpc.devices.opencl.dense import dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.experts import IDS, A, B


def _accepts(node: Node) -> bool:
    return all(map(dense_f32, (node.source(A), node.source(B), node.tensor)))


@kernel(Op.ADD_ID, accepts=_accepts)
def add_id(node: Node, c: Compiler) -> None:
    """Append y[t, j] = a[t, j] + b[ids[t, j]], a work-group a row."""
    a, b, ids, y = node.source(A), node.source(B), node.source(IDS), node.tensor
    name = c.kernel("experts", "add_id")
    c.launch(
        name,
        (rows_of(y),),
        *(a, b, ids, y, y.ne, a.nb, b.ne, b.nb, ids.nb, y.nb, *c.fault),
    )
