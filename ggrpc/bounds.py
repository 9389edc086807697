"""Checks that tensors lie inside their buffers, before their bytes are accessed.

The checks use a tensor's ne, nb, data and buffer, and do not read its bytes. All
commands and graphs use them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from ggrpc.errors import GraphError
from ggrpc.tensor import Tensor

MAX_BYTES = 1 << 62  # so that the sum of two sizes fits into 63 bits

# The elements of a view may overlap, for example in sliding windows. Without a limit, a
# view of a few bytes could have any number of elements, and cause endless work. The
# elements of a tensor may therefore have MAX_OVERLAP times the size of its buffer in
# bytes, or MIN_OVERLAP_BYTES if that is more.
MAX_OVERLAP = 64
MIN_OVERLAP_BYTES = 1 << 20


class Region(NamedTuple):
    """The addresses of one buffer.

    Attributes:
        base: the address of the first byte.
        size: the size in bytes.
    """

    base: int
    size: int


class Extent(NamedTuple):
    """The size of a tensor whose shape has been checked.

    Attributes:
        nbytes: the bytes from its first element to the end of its last.
        elements: the bytes of all elements; more than `nbytes` if they overlap.
    """

    nbytes: int
    elements: int


def check_place(tensor: Tensor, regions: Mapping[int, Region]) -> None:
    """Check that a tensor's shape is valid and that it lies inside its buffer.

    Args:
        tensor: the tensor.
        regions: the buffers by handle.

    Raises:
        GraphError: the shape is invalid, or the tensor is not inside its buffer.
    """
    check_inside(tensor, extent_of(tensor), regions)


def check_inside(tensor: Tensor, extent: Extent, regions: Mapping[int, Region]) -> None:
    """Check that a tensor lies inside its buffer.

    An empty tensor may have the buffer 0, because llama.cpp does not allocate it.

    Args:
        tensor: the tensor.
        extent: its size, as `extent_of` returns it.
        regions: the buffers by handle.

    Raises:
        GraphError: the tensor is not inside a buffer, or its elements overlap too much.
    """
    region = regions.get(tensor.buffer)
    if region is None:
        if not tensor.buffer and not extent.nbytes:
            return
        raise GraphError(
            f"{tensor}: buffer {tensor.buffer:#x} does not belong to this session"
        )
    nbytes, elements = extent
    base, size = region
    start = tensor.data - base
    if start < 0 or start + nbytes > size:
        raise GraphError(
            f"{tensor}: bytes {start} to {start + nbytes} do not lie inside its "
            f"buffer of {size}"
        )
    if elements > nbytes and elements > max(MIN_OVERLAP_BYTES, MAX_OVERLAP * size):
        raise GraphError(
            f"{tensor}: its overlapping elements have {elements} bytes; the limit is "
            f"{MAX_OVERLAP} times the size of its buffer ({size} bytes)"
        )


def extent_of(tensor: Tensor) -> Extent:
    """Check that ne and nb fit the type, and compute the size of a tensor.

    Raises:
        GraphError: a row is not a whole number of blocks, or the tensor is too large.
    """
    blck_size, type_size = tensor.type.blck_size, tensor.type.type_size
    if tensor.ne[0] % blck_size:
        raise GraphError(
            f"{tensor}: ne[0] = {tensor.ne[0]} is not a multiple of "
            f"{tensor.type.name}'s block size, {blck_size}"
        )
    if blck_size > 1 and tensor.nb[0] != type_size:
        raise GraphError(
            f"{tensor}: nb[0] = {tensor.nb[0]} is not the size of a block, {type_size}"
        )
    nbytes = tensor.nbytes
    if max(nbytes, type_size * math.prod(max(n, 1) for n in tensor.ne)) > MAX_BYTES:
        raise GraphError(
            f"{tensor}: ne {list(tensor.ne)} with nb {list(tensor.nb)} is too large"
        )
    return Extent(nbytes, tensor.packed_bytes)


def check_no_overlap(tensor: Tensor) -> None:
    """Check that no two elements of a result share bytes.

    Strides that interleave elements are rejected too; views in ggml never do that.

    Raises:
        GraphError: elements overlap or are interleaved.
    """
    if 0 in tensor.ne:
        return
    quantized = tensor.type.is_quantized
    taken = tensor.type.row_size(tensor.ne[0]) if quantized else tensor.type.type_size
    axes = zip(tensor.nb[quantized:], tensor.ne[quantized:], strict=True)
    for stride, length in sorted(axis for axis in axes if axis[1] > 1):
        if stride < taken:
            raise GraphError(
                f"{tensor}: elements of the result overlap: ne {list(tensor.ne)}, "
                f"nb {list(tensor.nb)}"
            )
        taken += (length - 1) * stride
