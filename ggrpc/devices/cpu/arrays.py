"""Tensors as numpy arrays: views of their bytes, and every type to and from float32.

The shape of an array is ne reversed, so that the last axis is the contiguous one.
Source of the block formats: ggml's quantize and dequantize functions, as numpy code by
the package `gguf`; adding a type is one row in `CODECS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gguf.quants
import numpy as np

from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType

Array = np.ndarray[Any, np.dtype[Any]]
Convert = Callable[[Array, Array], object]  # (from, to)
Pieces = list[tuple[slice, ...]]

# Elements that a codec works on at once: its temporaries stay in the L2 cache, and the
# cost of the Python around them vanishes.
GROUP = 1 << 16

DTYPES: dict[GGMLType, np.dtype[Any]] = {
    GGMLType.F32: np.dtype("<f4"),
    GGMLType.F16: np.dtype("<f2"),
    GGMLType.BF16: np.dtype("<u2"),
    GGMLType.I8: np.dtype("<i1"),
    GGMLType.I16: np.dtype("<i2"),
    GGMLType.I32: np.dtype("<i4"),
    GGMLType.I64: np.dtype("<i8"),
    GGMLType.F64: np.dtype("<f8"),
}


def view_of(tensor: Tensor, memory: memoryview, offset: int) -> Array:
    """A tensor's bytes as they are.

    Args:
        tensor: what to look at; validated to lie inside `memory`.
        memory: the bytes of its buffer.
        offset: of its first byte there.

    Returns:
        Plain types: shape ne reversed, of the type's dtype (BF16 as uint16).
        Quantized types: uint8, whose last axis is the bytes of a row.
    """
    ne, nb = tensor.ne, tensor.nb
    if tensor.type.is_quantized:
        row, stride, dtype = tensor.type.row_size(ne[0]), 1, np.dtype(np.uint8)
    else:
        row, stride, dtype = ne[0], nb[0], DTYPES[tensor.type]
    return np.ndarray(
        (ne[3], ne[2], ne[1], row),
        dtype,
        memory,
        offset,
        (nb[3], nb[2], nb[1], stride),
    )


def pieces(shape: tuple[int, ...], count: int) -> Pieces:
    """Cut an array into parts of nearly the same size, along one axis.

    Args:
        shape: of the array; the last axis is cut only where it is the only one.
        count: how many parts are wanted; fewer come where the axis is shorter.

    Returns:
        An index for each part.
    """
    outer = shape[:-1] if any(n > 1 for n in shape[:-1]) else shape
    long_enough = (axis for axis, n in enumerate(outer) if n >= count)
    axis = next(long_enough, max(range(len(outer)), key=outer.__getitem__))
    length = outer[axis]
    count = min(count, length)
    cuts = [length * i // count for i in range(count + 1)]
    before = (slice(None),) * axis
    return [(*before, slice(a, b)) for a, b in zip(cuts, cuts[1:])]


class Codec(NamedTuple):
    """How a type becomes float32 and is made from it.

    Attributes:
        unpack: from an array as `view_of` gives it to float32 of the tensor's shape.
        pack: the other way round; None where nobody knows how.
    """

    unpack: Convert
    pack: Convert | None


def _cast(x: Array, y: Array) -> None:
    np.copyto(y, x, casting="unsafe")


def _unpack_bf16(x: Array, y: Array) -> None:
    np.left_shift(x, 16, out=y.view(np.uint32), dtype=np.uint32)


def _pack_bf16(x: Array, y: Array) -> None:
    """Round to nearest even; NaN stays NaN (ggml_compute_fp32_to_bf16)."""
    bits = x.view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    np.copyto(y, rounded, casting="unsafe")
    nan = np.isnan(x)
    if nan.any():
        np.copyto(y, (bits >> 16) | 64, where=nan, casting="unsafe")


def _by_blocks(name: str, can_pack: bool = False) -> Codec:
    """The codec of a quantized type out of gguf's."""
    quant = getattr(gguf.quants, name)
    quant.init_grid()

    def unpack(x: Array, y: Array) -> None:
        step = max(1, GROUP // y.shape[-1])
        rows, out = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        for at in range(0, len(rows), step):
            out[at : at + step] = quant.dequantize_rows(rows[at : at + step])

    def pack(x: Array, y: Array) -> None:
        y[...] = quant.quantize_rows(np.ascontiguousarray(x))

    return Codec(unpack, pack if can_pack else None)


CODECS: dict[GGMLType, Codec] = {
    GGMLType.F32: Codec(_cast, _cast),
    GGMLType.F16: Codec(_cast, _cast),
    GGMLType.BF16: Codec(_unpack_bf16, _pack_bf16),
    GGMLType.F64: Codec(_cast, _cast),
    GGMLType.Q4_0: _by_blocks("Q4_0", can_pack=True),
    GGMLType.Q4_1: _by_blocks("Q4_1", can_pack=True),
    GGMLType.Q5_0: _by_blocks("Q5_0", can_pack=True),
    GGMLType.Q5_1: _by_blocks("Q5_1", can_pack=True),
    GGMLType.Q8_0: _by_blocks("Q8_0", can_pack=True),
    GGMLType.Q2_K: _by_blocks("Q2_K"),
    GGMLType.Q3_K: _by_blocks("Q3_K"),
    GGMLType.Q4_K: _by_blocks("Q4_K"),
    GGMLType.Q5_K: _by_blocks("Q5_K"),
    GGMLType.Q6_K: _by_blocks("Q6_K"),
    GGMLType.IQ1_S: _by_blocks("IQ1_S"),
    GGMLType.IQ1_M: _by_blocks("IQ1_M"),
    GGMLType.IQ2_XXS: _by_blocks("IQ2_XXS"),
    GGMLType.IQ2_XS: _by_blocks("IQ2_XS"),
    GGMLType.IQ2_S: _by_blocks("IQ2_S"),
    GGMLType.IQ3_XXS: _by_blocks("IQ3_XXS"),
    GGMLType.IQ3_S: _by_blocks("IQ3_S"),
    GGMLType.IQ4_NL: _by_blocks("IQ4_NL"),
    GGMLType.IQ4_XS: _by_blocks("IQ4_XS"),
    GGMLType.TQ1_0: _by_blocks("TQ1_0", can_pack=True),
    GGMLType.TQ2_0: _by_blocks("TQ2_0", can_pack=True),
    GGMLType.MXFP4: _by_blocks("MXFP4", can_pack=True),
}
