"""SUM_ROWS, MEAN, CUMSUM, ARGMAX; ARGSORT and TOP_K of rows that are not too long."""

from __future__ import annotations

from ggrpc.devices.opencl.ops.predicates import all_dense_f32, dense_f32, disjoint
from ggrpc.devices.opencl.program import Compiler, kernel
from ggrpc.ops import Node, Op
from ggrpc.ops.reductions import A, SortOrder

# Each element is compared with each: beyond this a sort takes less time.
MAX_LENGTH = 2048


def _accepts(node: Node) -> bool:
    return dense_f32(node.source(A))


@kernel(Op.SUM_ROWS, Op.MEAN, accepts=_accepts)
def sum_rows(node: Node, c: Compiler) -> None:
    """Append the sum or mean of each row, a work-group a row."""
    x, y = node.source(A), node.tensor
    scale = 1 / max(1, x.ne[0]) if y.op is Op.MEAN else 1.0
    name = c.kernel("reductions", "sum_rows")
    c.launch(name, (x.nrows,), x, y, x.ne, x.nb, y.nb, scale)


@kernel(Op.CUMSUM, accepts=all_dense_f32)
def cumsum(node: Node, c: Compiler) -> None:
    """Append the running sums of each row, a work-group a row."""
    x, y = node.source(A), node.tensor
    name = c.kernel("reductions", "cumsum")
    c.launch(name, (x.nrows,), x, y, x.ne, x.nb, y.nb)


@kernel(Op.ARGMAX, accepts=_accepts)
def argmax(node: Node, c: Compiler) -> None:
    """Append the place of the largest element, a work-group a row."""
    x, y = node.source(A), node.tensor
    name = c.kernel("reductions", "argmax")
    c.launch(name, (x.nrows,), x, y, x.ne, x.nb, y.nb)


def _accepts_order(node: Node) -> bool:
    x, y = node.source(A), node.tensor
    return dense_f32(x) and y.nb[0] == 4 and x.ne[0] <= MAX_LENGTH and disjoint(x, y)


@kernel(Op.ARGSORT, Op.TOP_K, accepts=_accepts_order)
def order(node: Node, c: Compiler) -> None:
    """Append the places of elements in their order, a work-group a row.

    Of the largest ggml gives the first one second: see the cpu's TOP_K.
    """
    x, y = node.source(A), node.tensor
    top = y.op is Op.TOP_K
    descending = top or node.params.order == SortOrder.DESC
    name = c.kernel("reductions", "order", DESCENDING=int(descending), SWAPPED=int(top))
    c.launch(name, (x.nrows,), x, y, x.ne, x.nb, y.nb, y.ne[0])
