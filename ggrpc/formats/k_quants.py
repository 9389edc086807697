"""Quantizes values to the K-quants: blocks of 256 values, in parts with own scales.

Each function of a type converts float32 of shape (n, 256) to uint8 of shape
(n, type_size), with the same result as ggml's quantize_row_q*_K_ref functions.
"""

from __future__ import annotations

import numpy as np

from ggrpc.formats.quantize import (
    ALL_ZERO,
    Blocks,
    concat_fields,
    f16_bytes,
    max_magnitude,
    pack_bits,
    reciprocal,
    total,
)

PASSES = 5  # of `_descended_scales` over the values of a part
F32 = np.float32


def q2_k(x: Blocks) -> Blocks:
    """Q2_K: 16 parts of 16 values of 2 bits, with scales and minimums of 4 bits."""
    parts = x.reshape(-1, 16)
    scales, mins = _scales_and_mins(parts, np.abs(parts), 3, -0.5, 15, squared=False)
    d, ls = _whole_multiples(scales.reshape(-1, 16), 15)
    dmin, lm = _whole_multiples(mins.reshape(-1, 16), 15)
    q = _with_minimum(x, d, ls, dmin, lm, 3)
    return concat_fields(ls | lm << 4, _quarters(q), f16_bytes(d), f16_bytes(dmin))


def q3_k(x: Blocks) -> Blocks:
    """Q3_K: 16 parts of 16 values of 3 bits, with scales of 6 bits."""
    scales = _descended_scales(x.reshape(-1, 16)).reshape(-1, 16)
    iscale = reciprocal(max_magnitude(scales), -32)
    d = reciprocal(iscale)
    times = np.clip(np.rint(iscale * scales), -32, 31)
    q = _without_minimum(x, d, times, 4)
    high = pack_bits((q >> 2).reshape(-1, 8, 32), 1, axis=1)
    stored = np.where(iscale == 0, 0, times + 32).astype(np.uint8)
    low = pack_bits((stored & 15).reshape(-1, 2, 8), 4, axis=1)
    upper = pack_bits((stored >> 4).reshape(-1, 4, 4), 2, axis=1)
    return concat_fields(high, _quarters(q & 3), low, upper, f16_bytes(d))


def q4_k(x: Blocks) -> Blocks:
    """Q4_K: 8 parts of 32 values of 4 bits, with scales and minimums of 6 bits."""
    q, head = _with_6_bit_scales(x, 15, -1, 20)
    return concat_fields(head, pack_bits(q.reshape(-1, 4, 2, 32), 4, axis=2))


def q5_k(x: Blocks) -> Blocks:
    """Q5_K: 8 parts of 32 values of 5 bits, with scales and minimums of 6 bits."""
    q, head = _with_6_bit_scales(x, 31, -0.5, 15)
    high = pack_bits((q >> 4).reshape(-1, 8, 32), 1, axis=1)
    low = pack_bits((q & 15).reshape(-1, 4, 2, 32), 4, axis=2)
    return concat_fields(head, high, low)


def q6_k(x: Blocks) -> Blocks:
    """Q6_K: 16 parts of 16 values of 6 bits, with scales of 8 bits."""
    scales = _searched_scales(x.reshape(-1, 16)).reshape(-1, 16)
    largest = max_magnitude(scales)
    iscale = reciprocal(np.where(np.abs(largest) < ALL_ZERO, 0, largest), -128)
    d = reciprocal(iscale)
    times = np.minimum(np.rint(iscale * scales), 127)
    q = _without_minimum(x, d, times, 32).reshape(-1, 2, 4, 32)
    q[iscale[:, 0] == 0] = 0
    low = (q & 15)[:, :, :2] | (q & 15)[:, :, 2:] << 4
    high = pack_bits(q >> 4, 2, axis=2)
    return concat_fields(low, high, times.astype(np.int8).view(np.uint8), f16_bytes(d))


def _with_6_bit_scales(
    x: Blocks, nmax: int, first: float, steps: int
) -> tuple[Blocks, Blocks]:
    """The quantized values of Q4_K or Q5_K, and the fields before them in a block."""
    parts = x.reshape(-1, 32)
    mean_square = total(parts * parts) / F32(32)
    weights = np.sqrt(mean_square) + np.abs(parts)
    scales, mins = _scales_and_mins(parts, weights, nmax, first, steps, squared=True)
    d, ls = _whole_multiples(scales.reshape(-1, 8), 63)
    dmin, lm = _whole_multiples(mins.reshape(-1, 8), 63)
    q = _with_minimum(x, d, ls, dmin, lm, nmax)
    upper = (ls[:, 4:] & 15) | (lm[:, 4:] & 15) << 4
    ls, lm = (s[:, :4] | s[:, 4:] >> 4 << 6 for s in (ls, lm))
    return q, concat_fields(f16_bytes(d), f16_bytes(dmin), ls, lm, upper)


def _whole_multiples(x: Blocks, most: int) -> tuple[Blocks, Blocks]:
    """The numbers of each row as multiples (0 to `most`) of a common scale, (n, 1)."""
    largest = np.maximum(x.max(axis=1, keepdims=True), 0)
    times = np.rint(reciprocal(largest, most) * x)
    return largest / F32(most), np.minimum(times, most).astype(np.uint8)


def _stored(d: Blocks) -> Blocks:
    """A scale, rounded as it is when stored as float16."""
    stored: Blocks = d.astype(np.float16).astype(F32)
    return stored


def _with_minimum(
    x: Blocks, d: Blocks, ls: Blocks, dmin: Blocks, lm: Blocks, nmax: int
) -> Blocks:
    """The q for which q (d ls) - (dmin lm) is nearest to x, for each part; (n, 256)."""
    scale, minimum = (_stored(d) * ls)[..., None], (_stored(dmin) * lm)[..., None]
    parts = x.reshape(*ls.shape, -1)
    q: Blocks = np.rint((parts + minimum) / np.where(scale, scale, np.inf))
    return q.clip(0, nmax).astype(np.uint8).reshape(x.shape)


def _without_minimum(x: Blocks, d: Blocks, times: Blocks, nmax: int) -> Blocks:
    """The q for which (q - nmax) (d times) is nearest to x, for each part; (n, 256)."""
    scale = (_stored(d) * times)[..., None]
    q = np.rint(x.reshape(*times.shape, -1) / np.where(scale, scale, np.inf))
    return (np.clip(q, -nmax, nmax - 1) + nmax).astype(np.uint8).reshape(x.shape)


def _quarters(q: Blocks) -> Blocks:
    """Pack numbers of 2 bits; each byte takes four that are 32 places apart."""
    return pack_bits(q.reshape(-1, 2, 4, 32), 2, axis=2)


def _scales_and_mins(
    x: Blocks, weights: Blocks, nmax: int, first: float, steps: int, squared: bool
) -> tuple[Blocks, Blocks]:
    """The scale and the negated minimum with the least error of those that are tried.

    The minimum is never above 0. Source: make_qkx2_quants.

    Args:
        x: the values, (n, size of a part).
        weights: the weight of the error of each value.
        nmax: the largest quantized value.
        first: the first scale to try maps the range of the values to nmax + `first`
            levels; each further one maps it to 0.1 more.
        steps: the number of further scales.
        squared: whether to minimize squared errors instead of absolute errors.
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
        # Each try starts from the best minimum so far.
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
    """The scale and minimum by weighted least squares, and whether they exist."""
    weighted = weights * q
    sum_l, sum_l2, sum_xl = total(weighted), total(weighted * q), total(weighted * x)
    determinant = sum_w * sum_l2 - sum_l * sum_l
    scale = (sum_w * sum_xl - sum_x * sum_l) / determinant
    minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant
    above = minimum > 0
    scale = np.where(above, sum_xl / sum_l2, scale)
    return scale, np.where(above, 0, minimum), determinant > 0


def _searched_scales(x: Blocks, nmax: int = 32) -> Blocks:
    """The scale with the least error of those that are tried; (n, 1).

    Errors are weighted by the squares of the values. Source: make_qx_quants with
    rmse_type 1.
    """
    largest, weights = max_magnitude(x), x * x
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
    """The scale after coordinate descent over the quantized values; (n, 1).

    Source: make_q3_quants.
    """
    largest, weights = max_magnitude(x), x * x
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
