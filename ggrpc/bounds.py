"""What holds of every tensor whose bytes are touched: shape and place are sound.

Here is all that is ever checked of ne, nb, data and buffer, whatever they came with.
It reads no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from ggrpc.errors import GraphError
from ggrpc.tensor import Tensor

MAX_BYTES = 1 << 62  # so that no sum or product of two sizes leaves 63 bits

# A view may show the same bytes several times, as windows that overlap do. Without an
# end to that a few bytes would be endless work: a tensor may be as many times as large
# as its buffer. What is smaller than a page or so may be shown as it likes.
MAX_REPEATED = 64
FEW_BYTES = 1 << 20


class Region(NamedTuple):
    """The addresses of one buffer.

    Attributes:
        base: its first address.
        size: its bytes.
    """

    base: int
    size: int


class Extent(NamedTuple):
    """What a tensor of sound shape takes, wherever it lies.

    Attributes:
        nbytes: from its first byte to its last.
        shown: bytes of all elements, each counted as often as it is shown.
    """

    nbytes: int
    shown: int


def check_place(tensor: Tensor, regions: Mapping[int, Region]) -> None:
    """Prove that a tensor's shape is sound and its bytes lie inside its buffer.

    Raises:
        GraphError: they don't.
    """
    check_inside(tensor, extent_of(tensor), regions)


def check_inside(tensor: Tensor, extent: Extent, regions: Mapping[int, Region]) -> None:
    """Prove that a tensor's bytes lie inside its buffer.

    An empty tensor may have no buffer, which is then 0: llama.cpp gives it no memory.

    Args:
        tensor: which.
        extent: what it takes.
        regions: the buffers by handle.

    Raises:
        GraphError: they don't.
    """
    region = regions.get(tensor.buffer)
    if region is None:
        if not tensor.buffer and not extent.nbytes:
            return
        raise GraphError(f"{tensor}: buffer {tensor.buffer:#x} is not of this session")
    nbytes, shown = extent
    base, size = region
    start = tensor.data - base
    if start < 0 or start + nbytes > size:
        raise GraphError(
            f"{tensor}: bytes {start} to {start + nbytes} do not lie inside its "
            f"buffer of {size}"
        )
    if shown > nbytes and shown > max(FEW_BYTES, MAX_REPEATED * size):
        raise GraphError(
            f"{tensor}: shows the {nbytes} bytes that it has as {shown}; "
            f"{MAX_REPEATED} times its buffer of {size} is the most"
        )


def extent_of(tensor: Tensor) -> Extent:
    """What a tensor takes, once ne and nb are proved to suit its type and each other.

    Raises:
        GraphError: rows cut through blocks, or it is too large for any memory.
    """
    blck_size, type_size = tensor.type.blck_size, tensor.type.type_size
    if tensor.ne[0] % blck_size:
        raise GraphError(
            f"{tensor}: ne[0] = {tensor.ne[0]} is no multiple of "
            f"{tensor.type.name}'s block of {blck_size}"
        )
    if blck_size > 1 and tensor.nb[0] != type_size:
        raise GraphError(f"{tensor}: nb[0] = {tensor.nb[0]} cuts through blocks")
    nbytes = tensor.nbytes
    if max(nbytes, type_size * math.prod(max(n, 1) for n in tensor.ne)) > MAX_BYTES:
        raise GraphError(
            f"{tensor}: no memory holds ne {list(tensor.ne)}, nb {list(tensor.nb)}"
        )
    return Extent(nbytes, tensor.packed_bytes)


def check_apart(tensor: Tensor) -> None:
    """Prove that no two elements of a result share bytes, as far as strides tell.

    Raises:
        GraphError: they do, or the strides are interleaved as no view of ggml's is.
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
