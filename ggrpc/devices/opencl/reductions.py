"""SUM_ROWS, MEAN, and ARGSORT of rows that are not long."""

from __future__ import annotations

from ggrpc.devices.opencl.dense import all_dense_f32, dense_f32, rows_of
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.reductions import A, SortOrder

LONGEST = 1024  # each element is compared with all others of its row


@kernel(Op.SUM_ROWS, Op.MEAN, accepts=all_dense_f32)
def sum_rows(node: Node, c: Compiler) -> None:
    """Append the sums, a work-group a row."""
    x, y = node.source(A), node.tensor
    part = 1 / x.ne[0] if y.op is Op.MEAN else 1.0
    name = c.kernel("reductions", "sum_rows")
    c.launch(name, (rows_of(y),), x, y, x.ne, x.nb, y.nb, part)


def _accepts_argsort(node: Node) -> bool:
    x, y = node.source(A), node.tensor
    return dense_f32(x) and x.ne[0] <= LONGEST and y.nb[0] == 4


@kernel(Op.ARGSORT, accepts=_accepts_argsort)
def argsort(node: Node, c: Compiler) -> None:
    """Append the order, a work-group a row."""
    x, y = node.source(A), node.tensor
    name = c.kernel("reductions", "argsort")
    ascends = int(node.params.order == SortOrder.ASC)
    c.launch(name, (rows_of(y),), x, y, x.ne, x.nb, y.nb, ascends)
