"""Fuses sums of many tensors, such as the results of a token's experts."""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.predicates import all_dense_f32, same_memory
from ggrpc.devices.shared_results import disjoint
from ggrpc.ops import Node, Op
from ggrpc.ops.arithmetic import A, B
from ggrpc.tensor import Tensor


def sum_tensors(nodes: Sequence[Node], c: Compiler) -> int:
    """ADDs of tensors at equal distances in memory, whose results share one place."""
    first = nodes[0]
    x, y = first.source(A), first.tensor
    step = first.source(B).data - x.data
    terms = [x]
    for node, before in zip(nodes, (None, *nodes), strict=False):
        term = x._replace(data=x.data + step * len(terms))
        if not _adds(node, before, term) or not same_memory(node.tensor, y):
            break
        terms.append(term)
    if len(terms) < 3 or not all(disjoint(term, y) for term in terms):
        return 0
    kernel, count = c.kernel("arithmetic", "sum_tensors"), len(terms)
    c.launch(kernel, (y.nrows,), x, y, y.ne, x.nb, y.nb, count, step)
    return count - 1


def _adds(node: Node, before: Node | None, term: Tensor) -> bool:
    """Whether a node adds a term to the result of the node before it, if any."""
    if node.tensor.op is not Op.ADD or not all_dense_f32(node):
        return False
    b = node.source(B)
    return (
        (before is None or node.source(A).id == before.tensor.id)
        and b.ne == node.tensor.ne == term.ne
        and same_memory(b, term)
    )
