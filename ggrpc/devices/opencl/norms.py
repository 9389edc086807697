"""RMS_NORM, NORM and L2_NORM, the first together with the weight that follows it."""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.dense import all_dense_f32, apart, rows_of, same_memory
from ggrpc.devices.opencl.program import Compiler, fuser, kernel
from ggrpc.ops import Node, Op


@kernel(Op.RMS_NORM, Op.NORM, Op.L2_NORM, accepts=all_dense_f32)
def norm(node: Node, c: Compiler) -> None:
    """Append the normalisation, a work-group a row."""
    x, y = node.source(0), node.tensor
    name = c.kernel("norms", y.op.name.lower())
    c.launch(name, (rows_of(y),), x, y, y.ne, x.nb, y.nb, node.params.eps)


@fuser(Op.RMS_NORM)
def norm_and_weight(nodes: Sequence[Node], c: Compiler) -> int:
    """RMS_NORM and a MUL of its result with one row."""
    norm = nodes[0]
    if len(nodes) < 2 or not _weighs(nodes[1], norm):
        return 0
    x, y, z = norm.source(0), norm.tensor, nodes[1].tensor
    weight = nodes[1].source(1)
    c.launch(
        c.kernel("norms", "rms_norm_mul"),
        (rows_of(y),),
        *(x, y, weight, z, y.ne, x.nb, y.nb, z.nb, norm.params.eps),
    )
    return 2


def _weighs(node: Node, norm: Node) -> bool:
    if node.tensor.op is not Op.MUL or not all_dense_f32(node):
        return False
    x, y, z = norm.source(0), norm.tensor, node.tensor
    weight = node.source(1)
    return (
        node.source(0).id == y.id
        and node.source(0).nb == y.nb
        and weight.ne == (y.ne[0], 1, 1, 1)
        and apart(weight, y)
        and apart(weight, z)
        and all(same_memory(x, r) or apart(x, r) for r in (y, z))
    )
