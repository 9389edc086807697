"""Predicates on the types, layouts and memory of tensors."""

from __future__ import annotations

from ggrpc.ops import Node
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS, GGMLType

# The types that packing.h can pack.
PACKED_TYPES = frozenset(
    {
        GGMLType.Q8_0,
        GGMLType.Q4_0,
        GGMLType.Q4_1,
        GGMLType.Q5_0,
        GGMLType.Q5_1,
    }
)
# The types that kv_cache.h can read.
CACHE_TYPES = FLOATS | PACKED_TYPES | {GGMLType.IQ4_NL}


def dense_f32(tensor: Tensor | None) -> bool:
    """Whether a tensor is F32 with contiguous rows; True if there is no tensor."""
    return tensor is None or (tensor.type is GGMLType.F32 and tensor.nb[0] == 4)


def all_dense_f32(node: Node) -> bool:
    """Whether the result and all sources of a node are F32 with contiguous rows."""
    return dense_f32(node.tensor) and all(map(dense_f32, node.src))


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors start at the same address and have the same strides."""
    return (a.buffer, a.data, a.nb) == (b.buffer, b.data, b.nb)


def is_aligned(tensor: Tensor, offset: int) -> bool:
    """Whether all elements (or blocks) are aligned.

    Args:
        tensor: the tensor.
        offset: the offset of the tensor in its buffer, in bytes.

    Returns:
        Whether the offset of every element is a multiple of the largest power of two
        that divides the size of an element. In graphs of ggml this is always so.
    """
    size = tensor.type.type_size
    unit = size & -size
    b0, b1, b2, b3 = tensor.nb
    if not (offset | b0 | b1 | b2 | b3) & (unit - 1):
        return True
    strides = (b for b, n in zip(tensor.nb, tensor.ne, strict=True) if n > 1)
    return not any(at % unit for at in (offset, *strides))
