"""The table of the OpenCL kernels, by op and by kind of device."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from itertools import product
from typing import Any, NamedTuple

from ggrpc.ops import Node, Op, contract_of

# The second argument is a `Compiler`, which imports this file.
Kernel = Callable[[Node, Any], None]
Accepts = Callable[[Node], bool]


class DeviceKind(Enum):
    """The kinds of devices that kernels are written for."""

    CPU = "cpu"  # CL_DEVICE_TYPE_CPU
    GPU = "gpu"  # every other device type


CPU, GPU = DeviceKind


class KernelEntry(NamedTuple):
    """A row of the kernel table.

    Attributes:
        compile: appends the launches that compute a node.
        accepts: whether the kernel computes a node with such types, layouts and places.
    """

    compile: Kernel
    accepts: Accepts


KERNELS: dict[tuple[Op, DeviceKind], KernelEntry] = {}


def kernel(
    *ops: Op,
    accepts: Accepts = lambda node: True,
    on: DeviceKind | None = None,
) -> Callable[[Kernel], Kernel]:
    """Register a function as the kernel of some ops.

    Args:
        ops: the ops that the function compiles.
        accepts: whether the function computes a node with such types, layouts and
            places. Nodes that it rejects are computed by the cpu device.
        on: the kind of device that the kernel is for; None for all kinds.
    """
    kinds = DeviceKind if on is None else [on]

    def register(function: Kernel) -> Kernel:
        entry = KernelEntry(function, accepts)
        KERNELS.update(dict.fromkeys(product(ops, kinds), entry))
        return function

    return register


def is_supported(node: Node, kind: DeviceKind) -> bool:
    """Whether there is an OpenCL kernel for the node's op, types and layout."""
    op = node.tensor.op
    if not contract_of(op).computes:
        return True
    entry = KERNELS.get((op, kind))
    return entry is not None and entry.accepts(node)
