"""Quantization of the K-quants: 256 values, in parts with scales of their own.

Each function takes float32 of shape (n, 256) and gives bytes (n, type_size).
Source: ggml's quantize_row_q*_K_ref functions; they round and choose as those do.
"""

from __future__ import annotations

import numpy as np

from ggrpc.formats.quantize import (
    ALL_ZERO,
    Blocks,
    halves,
    inverse,
    joined,
    of_largest_size,
    side_by_side,
    total,
)

PASSES = 5  # over the values of a part of Q3_K
F32 = np.float32


def q2_k(x: Blocks) -> Blocks:
    parts = x.reshape(-1, 16)
    scales, mins = _scales_and_mins(parts, np.abs(parts), 3, -0.5, 15, squared=False)
    d, ls = _whole_multiples(scales.reshape(-1, 16), 15)
    dmin, lm = _whole_multiples(mins.reshape(-1, 16), 15)
    q = _with_minimum(x, d, ls, dmin, lm, 3)
    return joined(ls | lm << 4, _quarters(q), halves(d), halves(dmin))


def q3_k(x: Blocks) -> Blocks:
    scales = _descended_scales(x.reshape(-1, 16)).reshape(-1, 16)
    iscale = inverse(of_largest_size(scales), -32)
    d = inverse(iscale)
    times = np.clip(np.rint(iscale * scales), -32, 31)
    q = _without_minimum(x, d, times, 4)
    high = side_by_side((q >> 2).reshape(-1, 8, 32), 1, axis=1)
    stored = np.where(iscale == 0, 0, times + 32).astype(np.uint8)
    low = side_by_side((stored & 15).reshape(-1, 2, 8), 4, axis=1)
    upper = side_by_side((stored >> 4).reshape(-1, 4, 4), 2, axis=1)
    return joined(high, _quarters(q & 3), low, upper, halves(d))


def q4_k(x: Blocks) -> Blocks:
    q, head = _with_6_bit_scales(x, 15, -1, 20)
    return joined(head, side_by_side(q.reshape(-1, 4, 2, 32), 4, axis=2))


def q5_k(x: Blocks) -> Blocks:
    q, head = _with_6_bit_scales(x, 31, -0.5, 15)
    high = side_by_side((q >> 4).reshape(-1, 8, 32), 1, axis=1)
    low = side_by_side((q & 15).reshape(-1, 4, 2, 32), 4, axis=2)
    return joined(head, high, low)


def q6_k(x: Blocks) -> Blocks:
    scales = _searched_scales(x.reshape(-1, 16)).reshape(-1, 16)
    largest = of_largest_size(scales)
    iscale = inverse(np.where(np.abs(largest) < ALL_ZERO, 0, largest), -128)
    d = inverse(iscale)
    times = np.minimum(np.rint(iscale * scales), 127)
    q = _without_minimum(x, d, times, 32).reshape(-1, 2, 4, 32)
    q[iscale[:, 0] == 0] = 0
    low = (q & 15)[:, :, :2] | (q & 15)[:, :, 2:] << 4
    high = side_by_side(q >> 4, 2, axis=2)
    return joined(low, high, times.astype(np.int8).view(np.uint8), halves(d))


def _with_6_bit_scales(
    x: Blocks, nmax: int, first: float, steps: int
) -> tuple[Blocks, Blocks]:
    """The values of Q4_K and Q5_K, and what comes before them in a block."""
    parts = x.reshape(-1, 32)
    mean_square = total(parts * parts) / F32(32)
    weights = np.sqrt(mean_square) + np.abs(parts)
    scales, mins = _scales_and_mins(parts, weights, nmax, first, steps, squared=True)
    d, ls = _whole_multiples(scales.reshape(-1, 8), 63)
    dmin, lm = _whole_multiples(mins.reshape(-1, 8), 63)
    q = _with_minimum(x, d, ls, dmin, lm, nmax)
    upper = (ls[:, 4:] & 15) | (lm[:, 4:] & 15) << 4
    ls, lm = (s[:, :4] | s[:, 4:] >> 4 << 6 for s in (ls, lm))
    return q, joined(halves(d), halves(dmin), ls, lm, upper)


def _whole_multiples(x: Blocks, most: int) -> tuple[Blocks, Blocks]:
    """A common scale (n, 1), and how many times it each number of a row is."""
    largest = np.maximum(x.max(axis=1, keepdims=True), 0)
    times = np.rint(inverse(largest, most) * x)
    return largest / F32(most), np.minimum(times, most).astype(np.uint8)


def _stored(d: Blocks) -> Blocks:
    """What becomes of a scale that is stored as float16."""
    stored: Blocks = d.astype(np.float16).astype(F32)
    return stored


def _with_minimum(
    x: Blocks, d: Blocks, ls: Blocks, dmin: Blocks, lm: Blocks, nmax: int
) -> Blocks:
    """Q such that q (d ls) - (dmin lm) is near x, for the parts of x; (n, 256)."""
    scale, minimum = (_stored(d) * ls)[..., None], (_stored(dmin) * lm)[..., None]
    parts = x.reshape(*ls.shape, -1)
    q: Blocks = np.rint((parts + minimum) / np.where(scale, scale, np.inf))
    return q.clip(0, nmax).astype(np.uint8).reshape(x.shape)


def _without_minimum(x: Blocks, d: Blocks, times: Blocks, nmax: int) -> Blocks:
    """Q such that (q - nmax) (d times) is near x, for the parts of x; (n, 256)."""
    scale = (_stored(d) * times)[..., None]
    q = np.rint(x.reshape(*times.shape, -1) / np.where(scale, scale, np.inf))
    return (np.clip(q, -nmax, nmax - 1) + nmax).astype(np.uint8).reshape(x.shape)


def _quarters(q: Blocks) -> Blocks:
    """Four numbers of 2 bits a byte, 32 places apart."""
    return side_by_side(q.reshape(-1, 2, 4, 32), 2, axis=2)


def _scales_and_mins(
    x: Blocks, weights: Blocks, nmax: int, first: float, steps: int, squared: bool
) -> tuple[Blocks, Blocks]:
    """The best of some scales, and the minimum, which is at most 0, with its sign off.

    Source: make_qkx2_quants.

    Args:
        x: (n, part).
        weights: of each value's error.
        nmax: the largest quantized value.
        first: by how much the first scale that is tried differs from nmax; the others
            follow by 0.1.
        steps: how many others.
        squared: whether errors count by their square, or by their size.
    """
    low, high = np.minimum(x.min(1, keepdims=True), 0), x.max(1, keepdims=True)
    flat, flat_low = high == low, low
    sum_w, sum_x = total(weights), total(weights * x)

    def quantized(levels: np.float32) -> Blocks:
        q: Blocks = np.rint(levels / (high - low) * (x - low))
        return q.clip(0, nmax)

    def error(q: Blocks, scale: Blocks, minimum: Blocks) -> Blocks:
        off = scale * q + minimum - x
        return total(weights * (off * off if squared else np.abs(off)))

    scale = 1 / (F32(nmax) / (high - low))
    least = error(quantized(F32(nmax)), scale, low)
    for step in range(steps + 1):
        # What has been the best minimum so far is what the next try starts from.
        q = quantized(F32(first) + F32(0.1) * F32(step) + F32(nmax))
        tried, minimum, solvable = _fitted(x, weights, q, sum_w, sum_x)
        now = error(q, tried, minimum)
        better = solvable & (now < least)
        least = np.where(better, now, least)
        scale, low = np.where(better, tried, scale), np.where(better, minimum, low)
    return np.where(flat, 0, scale), -np.where(flat, flat_low, low)


def _fitted(
    x: Blocks, weights: Blocks, q: Blocks, sum_w: Blocks, sum_x: Blocks
) -> tuple[Blocks, Blocks, Blocks]:
    """Scale and minimum by weighted least squares, and whether there are any."""
    weighted = weights * q
    sum_l, sum_l2, sum_xl = total(weighted), total(weighted * q), total(weighted * x)
    determinant = sum_w * sum_l2 - sum_l * sum_l
    scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
    minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
    above = minimum > 0
    scale = np.where(above, sum_xl / sum_l2, scale)
    return scale, np.where(above, 0, minimum), determinant > 0


def _searched_scales(x: Blocks, nmax: int = 32) -> Blocks:
    """The best of some scales, errors weighted by the squares of the values; (n, 1).

    Source: make_qx_quants with rmse_type 1.
    """
    largest, weights = of_largest_size(x), x * x
    scale = best = np.zeros_like(largest)
    for step in (0, *range(-9, 0), *range(1, 10)):
        iscale = -(F32(nmax) + F32(0.1) * F32(step)) / largest
        q = np.clip(np.rint(iscale * x), -nmax, nmax - 1)
        sumlx, suml2 = total(weights * x * q), total(weights * q * q)
        better = (suml2 > 0) & ((sumlx * sumlx > best * suml2) | (step == 0))
        tried = sumlx / suml2
        scale = np.where(better, tried, scale)
        best = np.where(better, tried * sumlx, best)
    return np.where(np.abs(largest) < ALL_ZERO, 0, scale)


def _descended_scales(x: Blocks, nmax: int = 4) -> Blocks:
    """The scale after each value in turn was quantized as suits the others; (n, 1).

    Source: make_q3_quants.
    """
    largest, weights = of_largest_size(x), x * x
    q = np.clip(np.rint(F32(-nmax) / largest * x), -nmax, nmax - 1)
    sumlx, suml2 = total(weights * x * q)[:, 0], total(weights * q * q)[:, 0]
    for _ in range(PASSES):
        for i in range(x.shape[1]):
            value, w, old = x[:, i], weights[:, i], q[:, i]
            slx, sl2 = sumlx - w * value * old, suml2 - w * old * old
            new = np.clip(np.rint(value * sl2 / slx), -nmax, nmax - 1)
            new_slx, new_sl2 = slx + w * value * new, sl2 + w * new * new
            better = (slx > 0) & (new != old) & (new_sl2 > 0)
            better &= new_slx * new_slx * suml2 > sumlx * sumlx * new_sl2
            q[:, i] = np.where(better, new, old)
            sumlx = np.where(better, new_slx, sumlx)
            suml2 = np.where(better, new_sl2, suml2)
    scale = np.where(suml2 > 0, sumlx / suml2, 0)[:, np.newaxis]
    return np.where(np.abs(largest) < ALL_ZERO, 0, scale)
