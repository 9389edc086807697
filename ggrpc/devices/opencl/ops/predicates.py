"""What many launch functions ask of the tensors that they take."""

from __future__ import annotations

from ggrpc.ops import Node
from ggrpc.tensor import Tensor
from ggrpc.types import FLOATS, GGMLType

# What packing.h packs, and all that kv_cache.h reads.
PACKED = frozenset(
    {
        GGMLType.Q8_0,
        GGMLType.Q4_0,
        GGMLType.Q4_1,
        GGMLType.Q5_0,
        GGMLType.Q5_1,
    }
)
CACHES = FLOATS | PACKED | {GGMLType.IQ4_NL}


def dense_f32(tensor: Tensor | None) -> bool:
    """Whether it is absent, or F32 whose rows have no gaps."""
    return tensor is None or (tensor.type is GGMLType.F32 and tensor.nb[0] == 4)


def all_dense_f32(node: Node) -> bool:
    """Whether the result and all sources are."""
    return dense_f32(node.tensor) and all(map(dense_f32, node.src))


def rows_of(tensor: Tensor) -> int:
    """How many rows it has."""
    return tensor.ne[1] * tensor.ne[2] * tensor.ne[3]


def same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same bytes, element by element."""
    return (a.buffer, a.data, a.nb) == (b.buffer, b.data, b.nb)


def is_aligned(tensor: Tensor, offset: int) -> bool:
    """Whether elements begin at multiples of their size, or of a power of 2 in it.

    Args:
        tensor: whose they are; those of ggml all do.
        offset: of its first byte in its buffer.
    """
    size = tensor.type.type_size
    unit = size & -size
    strides = (b for b, n in zip(tensor.nb, tensor.ne, strict=True) if n > 1)
    return not any(at % unit for at in (offset, *strides))


def disjoint(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have no byte in common."""
    return (
        a.buffer != b.buffer
        or a.data + a.nbytes <= b.data
        or b.data + b.nbytes <= a.data
    )
