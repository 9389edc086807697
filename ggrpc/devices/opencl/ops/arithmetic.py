"""ADD, SUB, MUL and DIV with broadcasting over whole rows; functions of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ggrpc.devices.opencl.ops.predicates import (
    all_dense_f32,
    disjoint,
    rows_of,
    same_memory,
)
from ggrpc.devices.opencl.program import Compiler, fuser, kernel
from ggrpc.ops import Node, Op
from ggrpc.tensor import Tensor


def _accepts(node: Node) -> bool:
    return all_dense_f32(node) and node.source(1).ne[0] in (1, node.tensor.ne[0])


@kernel(Op.ADD, Op.SUB, Op.MUL, Op.DIV, accepts=_accepts)
def binary(node: Node, c: Compiler) -> None:
    """Append y = a op b, a work-group a row."""
    a, b, y = node.source(0), node.source(1), node.tensor
    name = c.kernel("arithmetic", y.op.name.lower())
    c.launch(name, (rows_of(y),), a, b, y, y.ne, a.nb, b.ne, b.nb, y.nb)


@fuser(Op.ADD)
def total(nodes: Sequence[Node], c: Compiler) -> int:
    """ADDs of one tensor after the other, as of what the chosen experts gave.

    Those lie one after the other, and the sum in one place.
    """
    first = nodes[0]
    x, y = first.source(0), first.tensor
    step = first.source(1).data - x.data
    terms = [x]
    for node, before in zip(nodes, (None, *nodes), strict=False):
        next_ = x._replace(data=x.data + step * len(terms))
        if not _adds(node, before, next_) or not same_memory(node.tensor, y):
            break
        terms.append(next_)
    if len(terms) < 3 or not all(disjoint(term, y) for term in terms):
        return 0
    name, count = c.kernel("arithmetic", "total"), len(terms)
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb, count, step)
    return count - 1


def _adds(node: Node, before: Node | None, term: Tensor) -> bool:
    """Whether it adds just a term to what the node before it gave."""
    if node.tensor.op is not Op.ADD or not all_dense_f32(node):
        return False
    b = node.source(1)
    return (
        (before is None or node.source(0).id == before.tensor.id)
        and b.ne == node.tensor.ne == term.ne
        and same_memory(b, term)
    )


EACH = (
    *(Op.SCALE, Op.CLAMP, Op.LEAKY_RELU, Op.FILL),
    *(Op.SQR, Op.SQRT, Op.LOG, Op.SIN, Op.COS),
)


def _accepts_each(node: Node) -> bool:
    return all_dense_f32(node) and not any(map(math.isnan, node.params or ()))


@kernel(*EACH, accepts=_accepts_each)
def each(node: Node, c: Compiler) -> None:
    """Append y = f(x), with up to two parameters."""
    x, y = node.source(0), node.tensor
    name = c.kernel("arithmetic", "each", FUNCTION=y.op.name)
    first, second = (*map(float, node.params), 0.0, 0.0)[:2]
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb, first, second)
