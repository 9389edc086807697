"""Quantizes values to Q8_0, and to types that the package `gguf` can only unpack.

The K-quants are in `k_quants`. Each function of a type converts float32 of shape
(n, blck_size) to uint8 of shape (n, type_size), with the same result as ggml's
quantize_row_*_ref functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.quants import IQ4_NL, NVFP4

Blocks = npt.NDArray[Any]

ALL_ZERO = 1e-15  # GROUP_MAX_EPS: blocks of smaller values get the scale 0
TRIES = 7  # scales to try on either side of the first one, for IQ4_XS

IQ4_VALUES = np.array(IQ4_NL.kvalues, np.float32)
FP4_VALUES = np.array(NVFP4.kvalues, np.float32)
BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))


def q1_0(x: Blocks) -> Blocks:
    """Q1_0: the signs; the scale is the mean of the absolute values."""
    d = total(np.abs(x)) / np.float32(x.shape[1])
    return concat_fields(f16_bytes(d), np.packbits(x >= 0, axis=1, bitorder="little"))


def q2_0(x: Blocks) -> Blocks:
    """Q2_0: -1, 0 or 1 times the largest absolute value; halves round away from 0."""
    d = np.abs(x).max(axis=1, keepdims=True)
    scaled = x * reciprocal(d)
    q = np.copysign(np.floor(np.abs(scaled) + BELOW_HALF), scaled) + 1
    fours = np.clip(q, 0, 3).astype(np.uint8).reshape(len(x), -1, 4)
    return concat_fields(f16_bytes(d), pack_bits(fours, 2, axis=2))


def q8_0(x: Blocks) -> Blocks:
    """Q8_0: 127ths of the largest absolute value; halves round to even.

    This is how ggml's SIMD code rounds; its reference code rounds halves away from 0.
    """
    largest = np.abs(x).max(axis=1, keepdims=True)
    q = np.rint(x * reciprocal(largest, 127))
    return concat_fields(
        f16_bytes(largest / np.float32(127)), q.astype(np.int8).view(np.uint8)
    )


def q8_1(x: Blocks) -> Blocks:
    """Q8_1: like Q8_0, with the sum of the block's values."""
    packed = q8_0(x)
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    s = f16_bytes(d * total(packed[:, 2:].view(np.int8).astype(np.float32)))
    return concat_fields(packed[:, :2], s, packed[:, 2:])


def q8_k(x: Blocks) -> Blocks:
    """Q8_K: -127ths of the value with the largest size, and the sums of each 16."""
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, np.newaxis], axis=1)
    factor = reciprocal(largest, -127)
    q = np.minimum(np.rint(x * factor), 127).astype(np.int8)
    sums = q.reshape(len(x), -1, 16).sum(axis=2, dtype=np.int16)
    return concat_fields(
        *(part.view(np.uint8) for part in (reciprocal(factor), q, sums))
    )


def nvfp4(x: Blocks) -> Blocks:
    """NVFP4: four blocks of 16 values of 4 bits, each with a scale of 8 bits."""
    x = x.reshape(len(x), 4, 16)
    scales = NVFP4.fp32_to_ue4m3(np.abs(x).max(axis=2) / np.float32(6))
    d = NVFP4.ue4m3_to_fp32(scales).astype(np.float32)
    error = np.abs(d[:, :, None, None] * FP4_VALUES - x[..., None])
    q = error.argmin(axis=3).astype(np.uint8)
    return concat_fields(scales, pack_bits(q.reshape(len(x), 4, 2, 8), 4, axis=2))


def iq4_nl(x: Blocks) -> Blocks:
    """IQ4_NL: the nearest of 16 values, then the scale with the least squared error."""
    largest = max_magnitude(x)
    q = _nearest_iq4(x * reciprocal(largest / IQ4_VALUES[0]))
    d = _scale(*_sums(x, q))
    d[np.abs(largest) < ALL_ZERO] = 0
    return concat_fields(f16_bytes(d), pack_bits(q.reshape(-1, 2, 16), 4, axis=1))


def iq4_xs(x: Blocks) -> Blocks:
    """IQ4_XS: like IQ4_NL, in 8 parts whose scales are multiples of a common one."""
    parts = x.reshape(-1, 32)
    scales = _searched_scales(parts).reshape(-1, 8)
    d = max_magnitude(scales) / np.float32(-32)
    multiples = np.clip(np.rint(reciprocal(d) * scales), -32, 31)
    q = _nearest_iq4(reciprocal(d * multiples).reshape(-1, 1) * parts)
    stored = (multiples + 32).astype(np.uint16)
    high = pack_bits(stored >> 4, 2, axis=1)[:, np.newaxis].view(np.uint8)
    low = pack_bits((stored & 15).reshape(-1, 4, 2), 4, axis=2).astype(np.uint8)
    return concat_fields(
        f16_bytes(d), high, low, pack_bits(q.reshape(len(x), 8, 2, 16), 4, axis=2)
    )


def _searched_scales(x: Blocks) -> Blocks:
    """The scale with the least weighted error of those that are tried; (n, 1)."""
    largest = max_magnitude(x)
    q = _nearest_iq4(x * reciprocal(-largest / IQ4_VALUES[0]))
    sumqx, sumq2 = _sums(x, q)
    scale = _scale(sumqx, sumq2)
    best = scale * sumqx
    for shift in range(-TRIES, TRIES + 1):
        q = _nearest_iq4(x * ((shift + IQ4_VALUES[0]) / largest))
        sumqx, sumq2 = _sums(x, q)
        better = sumqx * sumqx > best * sumq2  # without a division, which would round
        scale = np.where(better, _scale(sumqx, sumq2), scale)
        best = np.where(better, scale * sumqx, best)
    scale[np.abs(largest) < ALL_ZERO] = 0
    return scale


def _nearest_iq4(x: Blocks) -> Blocks:
    """The index of the value nearest to each x; of two equally near, the upper one."""
    above = np.searchsorted(IQ4_VALUES, x, side="right").clip(1, 15)
    nearer_below = x - IQ4_VALUES[above - 1] < IQ4_VALUES[above] - x
    nearest: Blocks = (above - nearer_below).astype(np.uint8)
    return nearest


def _sums(x: Blocks, q: Blocks) -> tuple[Blocks, Blocks]:
    """The sums for weighted least squares: those of w v x and of w v v."""
    value, weight = IQ4_VALUES[q], x * x
    return total(weight * value * x), total(weight * value * value)


def _scale(sumqx: Blocks, sumq2: Blocks) -> Blocks:
    """The scale with the least squared error."""
    return np.where(sumq2 > 0, sumqx / sumq2, 0)


def max_magnitude(x: Blocks) -> Blocks:
    """The first element of each row with the largest absolute value; (n, 1)."""
    at = np.abs(x).argmax(axis=1)[:, np.newaxis]
    return np.take_along_axis(x, at, 1)


def reciprocal(x: Blocks, of: float = 1) -> Blocks:
    """`of` / x, but 0 where x is 0."""
    return np.where(x == 0, np.float32(0), np.float32(of) / x)


def total(x: Blocks) -> Blocks:
    """The sums of the rows, (n, 1), added in ggml's order to round equally."""
    return np.add.accumulate(x, axis=1)[:, -1:]


def f16_bytes(x: Blocks) -> Blocks:
    """The bytes of the values as float16."""
    return x.astype(np.float16).view(np.uint8)


def pack_bits(q: Blocks, bits: int, axis: int) -> Blocks:
    """Pack numbers of `bits` bits along an axis into one number, the first lowest."""
    shape = [1] * q.ndim
    shape[axis] = -1
    shifts = (bits * np.arange(q.shape[axis])).astype(q.dtype).reshape(shape)
    joint: Blocks = np.bitwise_or.reduce(q << shifts, axis=axis)
    return joint


def concat_fields(*parts: Blocks) -> Blocks:
    """Concatenate the fields of each block."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
