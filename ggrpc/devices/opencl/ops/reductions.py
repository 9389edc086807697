"""Launches for SUM_ROWS, MEAN, CUMSUM, ARGMAX, and for sorting short rows."""

from __future__ import annotations

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.kernel_table import kernel
from ggrpc.devices.opencl.predicates import all_dense_f32, dense_f32
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.reductions import A, SortOrder

# The kernel compares each element with all others of its row. Longer rows are sorted
# faster by the cpu device.
MAX_LENGTH = 2048


def _accepts(node: Node) -> bool:
    return dense_f32(node.source(A))


@kernel(Op.SUM_ROWS, Op.MEAN, accepts=_accepts)
def sum_rows(node: Node, c: Compiler) -> None:
    """Append the sum or mean of each row, one work-group per row."""
    x, y = node.source(A), node.tensor
    scale = 1 / max(1, x.ne[0]) if y.op is Op.MEAN else 1.0
    kernel = c.kernel("reductions", "sum_rows")
    c.launch(kernel, (x.nrows,), x, y, x.ne, x.nb, y.nb, scale)


@kernel(Op.CUMSUM, accepts=all_dense_f32)
def cumsum(node: Node, c: Compiler) -> None:
    """Append the cumulative sums of each row, one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("reductions", "cumsum")
    c.launch(kernel, (x.nrows,), x, y, x.ne, x.nb, y.nb)


@kernel(Op.ARGMAX, accepts=_accepts)
def argmax(node: Node, c: Compiler) -> None:
    """Append the index of the largest element of each row, one work-group per row."""
    x, y = node.source(A), node.tensor
    kernel = c.kernel("reductions", "argmax")
    c.launch(kernel, (x.nrows,), x, y, x.ne, x.nb, y.nb)


def _accepts_sort(node: Node) -> bool:
    x, y = node.source(A), node.tensor
    return dense_f32(x) and y.nb[0] == 4 and x.ne[0] <= MAX_LENGTH and disjoint(x, y)


@kernel(Op.ARGSORT, Op.TOP_K, accepts=_accepts_sort)
def argsort(node: Node, c: Compiler) -> None:
    """Append the indices that sort each row, one work-group per row.

    In ggml's TOP_K, the first two indices are swapped: see the cpu device's kernel.
    """
    x, y = node.source(A), node.tensor
    top_k = y.op is Op.TOP_K
    descending = top_k or node.params.order == SortOrder.DESC
    kernel = c.kernel(
        "reductions", "argsort", DESCENDING=int(descending), SWAPPED=int(top_k)
    )
    c.launch(kernel, (x.nrows,), x, y, x.ne, x.nb, y.nb, y.ne[0])
