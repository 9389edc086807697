"""The table of the cpu device's kernels, by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ggrpc.formats.codecs import CODECS, DTYPES
from ggrpc.ops import Node, Op, contract_of

# The second argument is a `Compiler`, which imports this file.
Kernel = Callable[[Node, Any], None]
Accepts = Callable[[Node], bool]

PACKS = {t: codec.pack for t, codec in CODECS.items() if codec.pack is not None}
WRITABLE = DTYPES.keys() | PACKS.keys()


class KernelEntry(NamedTuple):
    """A row of the kernel table.

    Attributes:
        compile: appends the steps that compute a node.
        accepts: whether the kernel computes a node with these types.
    """

    compile: Kernel
    accepts: Accepts


KERNELS: dict[Op, KernelEntry] = {}


def can_write(node: Node) -> bool:
    """Whether values can be converted to the type of the node's result."""
    return node.tensor.type in WRITABLE


def kernel(*ops: Op, accepts: Accepts = can_write) -> Callable[[Kernel], Kernel]:
    """Register a function as the kernel of some ops.

    Args:
        ops: the ops that the function compiles.
        accepts: whether the function computes a node with these types.
    """

    def register(function: Kernel) -> Kernel:
        KERNELS.update(dict.fromkeys(ops, KernelEntry(function, accepts)))
        return function

    return register


def is_supported(node: Node) -> bool:
    """Whether there is a kernel for the node's op and types."""
    op = node.tensor.op
    if not contract_of(op).computes:
        return True
    return op in KERNELS and KERNELS[op].accepts(node)
