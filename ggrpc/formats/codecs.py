"""Tensors as numpy arrays: views of their bytes, and every type to and from float32.

The shape of an array is ne reversed, so that the last axis is the contiguous one.
Source of the block formats: ggml's quantize and dequantize functions, as numpy code by
the package `gguf`; adding a type is one row in `CODECS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import gguf.quants
import numpy as np

from ggrpc.formats import k_quants, quantize
from ggrpc.tensor import Tensor
from ggrpc.types import QUANTIZED, GGMLType

Array = np.ndarray[Any, np.dtype[Any]]
Convert = Callable[[Array, Array], object]  # (from, to)
Box = tuple[slice, ...]
Pieces = list[Box]

# Elements that a codec works on at once: its temporaries stay in the L2 cache, and the
# cost of the Python around them vanishes.
GROUP = 1 << 16

# Elements for which numpy's conversion of F16 is done before others have begun.
FEW = 1 << 12
# Of a F16 shifted left by 13: the sign, which was extended, and the other 15 bits.
F16_BITS = np.array(0x8FFFE000, np.uint32).view(np.int32)
F16_EXPONENT = np.array(2.0 ** (127 - 15), np.float32)  # the two types' biases

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
    before = (slice(None),) * axis
    return [
        (*before, slice(length * i // count, length * (i + 1) // count))
        for i in range(count)
    ]


def boxes(shape: Sequence[int], size: int) -> Iterator[Box]:
    """Cut an array into boxes of `size` elements at most, whole in the last axes."""
    if 0 < math.prod(shape) <= size:
        yield tuple(slice(0, n) for n in shape)
        return
    lengths = []
    for n in reversed(shape):
        lengths.append(max(1, min(n, size)))
        size //= lengths[-1]
    steps = [
        [slice(at, min(at + length, n)) for at in range(0, n, length)]
        for n, length in zip(shape, reversed(lengths), strict=True)
    ]
    yield from product(*steps)


class Codec(NamedTuple):
    """How a type becomes float32 and is made from it.

    Attributes:
        unpack: from an array as `view_of` gives it to float32 of the tensor's shape.
        pack: the other way round; None where nobody knows how.
    """

    unpack: Convert
    pack: Convert | None


def cast(x: Array, y: Array) -> None:
    """Copy values as numpy casts them; float to int cuts the fraction off."""
    np.copyto(y, x, casting="unsafe")


def _unpack_f16(x: Array, y: Array) -> None:
    """Move the bits to their places and let a multiplication mend the exponent.

    That is twice as fast as numpy's conversion, but takes the exponent of infinity and
    NaN for that of 65536; where any such number turns up, numpy does it.
    """
    if x.size >= FEW:
        bits = y.view(np.int32)
        np.left_shift(x.view(np.int16), 13, out=bits, dtype=np.int32)
        np.bitwise_and(bits, F16_BITS, out=bits)
        np.multiply(y, F16_EXPONENT, out=y)
        if y.max() < 65536 and y.min() > -65536:
            return
    cast(x, y)


def unpack_bf16(x: Array, y: Array) -> None:
    """Widen BF16, as uint16, to float32."""
    np.left_shift(x, 16, out=y.view(np.uint32), dtype=np.uint32)


def pack_bf16(x: Array, y: Array) -> None:
    """Round to nearest even; NaN stays NaN (ggml_compute_fp32_to_bf16)."""
    for box in boxes(y.shape, GROUP):
        _pack_some_bf16(x[box], y[box])


def _pack_some_bf16(x: Array, y: Array) -> None:
    bits = x.view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    np.copyto(y, rounded, casting="unsafe")
    nan = np.isnan(x)
    if nan.any():
        np.copyto(y, (bits >> 16) | 64, where=nan, casting="unsafe")


def _unpack_q1_0(blocks: Array) -> Array:
    bits = np.unpackbits(blocks[:, 2:], axis=-1, bitorder="little")
    return _scaled(2 * bits.view(np.int8) - 1, blocks)


def _unpack_q2_0(blocks: Array) -> Array:
    pairs = (blocks[:, 2:, np.newaxis] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    return _scaled(pairs.reshape(len(blocks), -1).view(np.int8) - 1, blocks)


def _unpack_q8_1(blocks: Array) -> Array:
    return _scaled(blocks[:, 4:].view(np.int8), blocks)


def _unpack_q8_k(blocks: Array) -> Array:
    scale: Array = blocks[:, :4].copy().view(np.float32)
    return scale * blocks[:, 4:260].view(np.int8)


def _scaled(values: Array, blocks: Array) -> Array:
    """Values times the float16 that their block starts with."""
    scale: Array = blocks[:, :2].copy().view(np.float16)
    return np.multiply(values, scale, dtype=np.float32)


def _by_blocks(
    type: GGMLType,
    unpack_blocks: Callable[[Array], Array],
    pack_blocks: Callable[[Array], Array] | None,
) -> Codec:
    """The codec of a quantized type.

    Args:
        type: which.
        unpack_blocks: from (n, type_size) bytes to (n, blck_size) values.
        pack_blocks: the other way round, None where nobody knows how.
    """

    def unpack(x: Array, y: Array) -> None:
        for packed, values in _groups(type, x, y):
            blocks = packed.reshape(-1, type.type_size)
            values[...] = unpack_blocks(blocks).reshape(values.shape)

    return Codec(unpack, partial(_pack, type, pack_blocks) if pack_blocks else None)


def _pack(
    type: GGMLType, pack_blocks: Callable[[Array], Array], x: Array, y: Array
) -> None:
    with np.errstate(all="ignore"):  # what a block of zeros is divided by
        for packed, values in _groups(type, y, x):
            blocks = np.ascontiguousarray(values).reshape(-1, type.blck_size)
            packed[...] = pack_blocks(blocks).reshape(packed.shape)


def _groups(
    type: GGMLType, packed: Array, values: Array
) -> Iterator[tuple[Array, Array]]:
    """Parts of a tensor, as blocks and as values, of GROUP values at most."""
    block, size = type.blck_size, type.type_size
    *rows, length = values.shape
    for *outer, at in boxes((*rows, length // block), GROUP // block):
        yield (
            packed[(*outer, slice(at.start * size, at.stop * size))],
            values[(*outer, slice(at.start * block, at.stop * block))],
        )


def _of_gguf(type: GGMLType) -> Codec:
    quant = getattr(gguf.quants, type.name)
    quant.init_grid()
    can_pack = "quantize_blocks" in vars(quant)
    pack_blocks = PACKERS.get(type, quant.quantize_blocks if can_pack else None)
    return _by_blocks(type, quant.dequantize_blocks, pack_blocks)


PACKERS: dict[GGMLType, Callable[[Array], Array]] = {
    GGMLType.Q8_0: quantize.q8_0,
    GGMLType.Q2_K: k_quants.q2_k,
    GGMLType.Q3_K: k_quants.q3_k,
    GGMLType.Q4_K: k_quants.q4_k,
    GGMLType.Q5_K: k_quants.q5_k,
    GGMLType.Q6_K: k_quants.q6_k,
    GGMLType.IQ4_NL: quantize.iq4_nl,
    GGMLType.IQ4_XS: quantize.iq4_xs,
    GGMLType.NVFP4: quantize.nvfp4,
}

CODECS: dict[GGMLType, Codec] = {
    GGMLType.F32: Codec(cast, cast),
    GGMLType.F16: Codec(_unpack_f16, cast),
    GGMLType.BF16: Codec(unpack_bf16, pack_bf16),
    GGMLType.F64: Codec(cast, cast),
    GGMLType.Q1_0: _by_blocks(GGMLType.Q1_0, _unpack_q1_0, quantize.q1_0),
    GGMLType.Q2_0: _by_blocks(GGMLType.Q2_0, _unpack_q2_0, quantize.q2_0),
    GGMLType.Q8_1: _by_blocks(GGMLType.Q8_1, _unpack_q8_1, quantize.q8_1),
    GGMLType.Q8_K: _by_blocks(GGMLType.Q8_K, _unpack_q8_k, quantize.q8_k),
    **{t: _of_gguf(t) for t in QUANTIZED if hasattr(gguf.quants, t.name)},
}
