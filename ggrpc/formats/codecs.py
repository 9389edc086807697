"""The codec of each type, to and from float32, and views of tensors as numpy arrays.

The shape of an array is ne reversed, so that the last axis is the contiguous one. The
block formats are those of ggml's quantize and dequantize functions; the package `gguf`
has most of them in numpy. To add a type, add a row to `CODECS`.
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
Convert = Callable[[Array, Array], object]  # (source, target)
Box = tuple[slice, ...]
Pieces = list[Box]

# Elements that a codec converts at once: few enough for its temporaries to stay in the
# L2 cache, and enough to make the overhead of Python negligible.
GROUP = 1 << 16

# The number of elements below which numpy's own conversion of F16 is faster.
MIN_FAST_F16 = 1 << 12
# The sign and the other 15 bits of an F16, sign-extended and shifted left by 13.
F16_MASK = np.array(0x8FFFE000, np.uint32).view(np.int32)
F16_SCALE = np.array(2.0 ** (127 - 15), np.float32)  # difference of exponent biases

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
    """A view of a tensor's bytes.

    Args:
        tensor: the tensor; it must have been checked to lie inside `memory`.
        memory: the bytes of its buffer.
        offset: the offset of its first byte in the buffer.

    Returns:
        Plain types: shape ne reversed, with the dtype of the type (uint16 for BF16).
        Quantized types: uint8; the last axis has the bytes of a row instead of ne[0].
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
    """Split an array into parts of nearly equal size along one axis.

    Args:
        shape: the shape of the array. The last axis is split only if all others have
            length 1.
        count: the number of parts; there are fewer if no axis is long enough.

    Returns:
        The index of each part.
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
    """Split an array into boxes of at most `size` elements; the last axes stay whole.

    Args:
        shape: the shape of the array.
        size: the maximum number of elements of a box.

    Yields:
        The index of each box.
    """
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
    """The conversion of a type to and from float32.

    Attributes:
        unpack: converts an array as returned by `view_of` to float32 of shape ne
            reversed.
        pack: the reverse; None if ggrpc cannot pack the type.
    """

    unpack: Convert
    pack: Convert | None


def cast(x: Array, y: Array) -> None:
    """Copy values with numpy's conversion; from float to int it truncates."""
    np.copyto(y, x, casting="unsafe")


def _unpack_f16(x: Array, y: Array) -> None:
    """Shift the bits into place, and correct the exponent by a multiplication.

    This is twice as fast as numpy's conversion, but infinity and NaN become finite
    numbers from 65536 on. If the result has such a number, numpy converts the array.
    """
    if x.size >= MIN_FAST_F16:
        bits = y.view(np.int32)
        np.left_shift(x.view(np.int16), 13, out=bits, dtype=np.int32)
        np.bitwise_and(bits, F16_MASK, out=bits)
        np.multiply(y, F16_SCALE, out=y)
        if y.max() < 65536 and y.min() > -65536:
            return
    cast(x, y)


def unpack_bf16(x: Array, y: Array) -> None:
    """Convert BF16, stored as uint16, to float32."""
    np.left_shift(x, 16, out=y.view(np.uint32), dtype=np.uint32)


def pack_bf16(x: Array, y: Array) -> None:
    """Convert float32 to BF16, stored as uint16.

    Rounds to nearest even; NaN stays NaN. Source: ggml_compute_fp32_to_bf16.
    """
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
    """The values of each block times its scale, the float16 at its start."""
    scale: Array = blocks[:, :2].copy().view(np.float16)
    return np.multiply(values, scale, dtype=np.float32)


def _by_blocks(
    type: GGMLType,
    unpack_blocks: Callable[[Array], Array],
    pack_blocks: Callable[[Array], Array] | None,
) -> Codec:
    """The codec of a quantized type.

    Args:
        type: the type.
        unpack_blocks: converts uint8 of shape (n, type_size) to float32 of shape
            (n, blck_size).
        pack_blocks: the reverse; None if ggrpc cannot pack the type.
    """

    def unpack(x: Array, y: Array) -> None:
        for packed, values in _groups(type, x, y):
            blocks = packed.reshape(-1, type.type_size)
            values[...] = unpack_blocks(blocks).reshape(values.shape)

    return Codec(unpack, partial(_pack, type, pack_blocks) if pack_blocks else None)


def _pack(
    type: GGMLType, pack_blocks: Callable[[Array], Array], x: Array, y: Array
) -> None:
    with np.errstate(all="ignore"):  # the scale of a block of zeros is 0
        for packed, values in _groups(type, y, x):
            blocks = np.ascontiguousarray(values).reshape(-1, type.blck_size)
            packed[...] = pack_blocks(blocks).reshape(packed.shape)


def _groups(
    type: GGMLType, packed: Array, values: Array
) -> Iterator[tuple[Array, Array]]:
    """Split a tensor into parts of at most GROUP values.

    Yields:
        The blocks and the values of each part.
    """
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
