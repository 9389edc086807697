"""Fuses SET_ROWS of keys and of values, which fill the KV cache."""

from __future__ import annotations

from collections.abc import Sequence

from ggrpc.devices.opencl.compiler import Compiler
from ggrpc.devices.opencl.ops.copies import (
    set_rows_arguments,
    set_rows_defines,
    share_set_rows,
)
from ggrpc.ops import Node
from ggrpc.ops.copies import ROWS


def set_two(nodes: Sequence[Node], c: Compiler) -> int:
    """SET_ROWS, and the SET_ROWS of the same types that follows it."""
    if len(nodes) < 2 or not share_set_rows(*nodes[:2]):
        return 0
    first, second = nodes[:2]
    if not c.can_hoist([first], second):
        return 0
    rows = first.source(ROWS).nrows + second.source(ROWS).nrows
    kernel = c.kernel("copies", "set_rows_two", **set_rows_defines(first))
    arguments = *set_rows_arguments(first), *set_rows_arguments(second)
    c.launch(kernel, (rows,), *arguments, *c.fault, c.number_of(1))
    return 2
