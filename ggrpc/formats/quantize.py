"""Quantization of Q8_0 and of the types that `gguf` can only unpack.

The K-quants have a file of their own.

Each function takes float32 of shape (n, blck_size) and gives bytes (n, type_size).
Source: ggml's quantize_row_*_ref functions; they round and choose as those do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.quants import IQ4_NL, NVFP4

Blocks = npt.NDArray[Any]

ALL_ZERO = 1e-15  # GROUP_MAX_EPS: no scale for what is not larger
TRIES = 7  # of scales to either side of the obvious one, for IQ4_XS

IQ4_VALUES = np.array(IQ4_NL.kvalues, np.float32)
FP4_VALUES = np.array(NVFP4.kvalues, np.float32)
BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0))


def q1_0(x: Blocks) -> Blocks:
    """The signs, and the mean of what they belong to."""
    d = total(np.abs(x)) / np.float32(x.shape[1])
    return joined(halves(d), np.packbits(x >= 0, axis=1, bitorder="little"))


def q2_0(x: Blocks) -> Blocks:
    """-1, 0 or 1 times the largest, halves away from 0."""
    d = np.abs(x).max(axis=1, keepdims=True)
    scaled = x * inverse(d)
    q = np.copysign(np.floor(np.abs(scaled) + BELOW_HALF), scaled) + 1
    fours = np.clip(q, 0, 3).astype(np.uint8).reshape(len(x), -1, 4)
    return joined(halves(d), side_by_side(fours, 2, axis=2))


def q8_0(x: Blocks) -> Blocks:
    """127ths of the largest, halves to even, as ggml does it with vector units."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    q = np.rint(x * inverse(largest, 127))
    return joined(halves(largest / np.float32(127)), q.astype(np.int8).view(np.uint8))


def q8_1(x: Blocks) -> Blocks:
    """As Q8_0, and what the block's elements sum up to."""
    packed = q8_0(x)
    d = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
    s = halves(d * total(packed[:, 2:].view(np.int8).astype(np.float32)))
    return joined(packed[:, :2], s, packed[:, 2:])


def q8_k(x: Blocks) -> Blocks:
    """127ths of the largest, its sign turned, and what each 16 of them sum up to."""
    largest = np.take_along_axis(x, np.abs(x).argmax(axis=1)[:, np.newaxis], axis=1)
    factor = inverse(largest, -127)
    q = np.minimum(np.rint(x * factor), 127).astype(np.int8)
    sums = q.reshape(len(x), -1, 16).sum(axis=2, dtype=np.int16)
    return joined(*(part.view(np.uint8) for part in (inverse(factor), q, sums)))


def nvfp4(x: Blocks) -> Blocks:
    """Four blocks of 16, each with a scale of 8 bits."""
    x = x.reshape(len(x), 4, 16)
    scales = NVFP4.fp32_to_ue4m3(np.abs(x).max(axis=2) / np.float32(6))
    d = NVFP4.ue4m3_to_fp32(scales).astype(np.float32)
    error = np.abs(d[:, :, None, None] * FP4_VALUES - x[..., None])
    q = error.argmin(axis=3).astype(np.uint8)
    return joined(scales, side_by_side(q.reshape(len(x), 4, 2, 8), 4, axis=2))


def iq4_nl(x: Blocks) -> Blocks:
    """The nearest of 16 values; then the scale that suits them best."""
    largest = of_largest_size(x)
    q = _nearest_iq4(x * inverse(largest / IQ4_VALUES[0]))
    d = _scale(*_sums(x, q))
    d[np.abs(largest) < ALL_ZERO] = 0
    return joined(halves(d), side_by_side(q.reshape(-1, 2, 16), 4, axis=1))


def iq4_xs(x: Blocks) -> Blocks:
    """As IQ4_NL, in 8 parts, whose scales are multiples of a common one."""
    parts = x.reshape(-1, 32)
    scales = _searched_scales(parts).reshape(-1, 8)
    d = of_largest_size(scales) / np.float32(-32)
    multiples = np.clip(np.rint(inverse(d) * scales), -32, 31)
    q = _nearest_iq4(inverse(d * multiples).reshape(-1, 1) * parts)
    stored = (multiples + 32).astype(np.uint16)
    high = side_by_side(stored >> 4, 2, axis=1)[:, np.newaxis].view(np.uint8)
    low = side_by_side((stored & 15).reshape(-1, 4, 2), 4, axis=2).astype(np.uint8)
    return joined(
        halves(d), high, low, side_by_side(q.reshape(len(x), 8, 2, 16), 4, axis=2)
    )


def _searched_scales(x: Blocks) -> Blocks:
    """The scale of the least weighted error among some (n, 1)."""
    largest = of_largest_size(x)
    q = _nearest_iq4(x * inverse(-largest / IQ4_VALUES[0]))
    sumqx, sumq2 = _sums(x, q)
    scale = _scale(sumqx, sumq2)
    best = scale * sumqx
    for shift in range(-TRIES, TRIES + 1):
        q = _nearest_iq4(x * ((shift + IQ4_VALUES[0]) / largest))
        sumqx, sumq2 = _sums(x, q)
        better = sumqx * sumqx > best * sumq2  # not after a division: that rounds
        scale = np.where(better, _scale(sumqx, sumq2), scale)
        best = np.where(better, scale * sumqx, best)
    scale[np.abs(largest) < ALL_ZERO] = 0
    return scale


def _nearest_iq4(x: Blocks) -> Blocks:
    """Indices of the values nearest to x; the upper one in the middle."""
    above = np.searchsorted(IQ4_VALUES, x, side="right").clip(1, 15)
    nearer_below = x - IQ4_VALUES[above - 1] < IQ4_VALUES[above] - x
    nearest: Blocks = (above - nearer_below).astype(np.uint8)
    return nearest


def _sums(x: Blocks, q: Blocks) -> tuple[Blocks, Blocks]:
    """What weighted least squares needs: the sums of w v x, and of w v v."""
    value, weight = IQ4_VALUES[q], x * x
    return total(weight * value * x), total(weight * value * value)


def _scale(sumqx: Blocks, sumq2: Blocks) -> Blocks:
    """The scale with which values come nearest to x."""
    return np.where(sumq2 > 0, sumqx / sumq2, 0)


def of_largest_size(x: Blocks) -> Blocks:
    """Of each row, the first of those furthest from 0 (n, 1)."""
    at = np.abs(x).argmax(axis=1)[:, np.newaxis]
    return np.take_along_axis(x, at, 1)


def inverse(x: Blocks, of: float = 1) -> Blocks:
    """Of / x, and 0 for 0."""
    return np.where(x == 0, np.float32(0), np.float32(of) / x)


def total(x: Blocks) -> Blocks:
    """The sums of the rows (n, 1), term by term: another order rounds otherwise."""
    return np.add.accumulate(x, axis=1)[:, -1:]


def halves(x: Blocks) -> Blocks:
    """The bytes of float16."""
    return x.astype(np.float16).view(np.uint8)


def side_by_side(q: Blocks, bits: int, axis: int) -> Blocks:
    """Numbers of so many bits along an axis put into one, the first the lowest."""
    shape = [1] * q.ndim
    shape[axis] = -1
    shifts = (bits * np.arange(q.shape[axis])).astype(q.dtype).reshape(shape)
    joint: Blocks = np.bitwise_or.reduce(q << shifts, axis=axis)
    return joint


def joined(*parts: Blocks) -> Blocks:
    """The bytes of the parts of a block, one after the other."""
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
