"""ACC and SET in numpy."""

from __future__ import annotations

import numpy as np

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.kernel_table import kernel
from ggrpc.formats.codecs import cast
from ggrpc.op import Op
from ggrpc.ops import Node
from ggrpc.ops.patches import A, B, part_of


@kernel(Op.ACC)
def acc(node: Node, c: Compiler) -> None:
    _copy(node, c)
    a, b, p = node.source(A), node.source(B), node.params
    if b.nelements:
        before, after = c.view(part_of(a, b, p)), c.view(part_of(node.tensor, b, p))
        c.elementwise(np.add, (before, c.view(b)), after)


@kernel(Op.SET)
def set_part(node: Node, c: Compiler) -> None:
    _copy(node, c)
    b = node.source(B)
    if b.nelements:
        c.convert(cast, c.view(b), c.view(part_of(node.tensor, b, node.params)))


def _copy(node: Node, c: Compiler) -> None:
    if not node.params.inplace:
        c.convert(cast, c.view(node.source(A)), c.view(node.tensor))
