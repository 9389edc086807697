"""What a target computed beside what was recorded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ggrpc.formats.codecs import CODECS, DTYPES, Array
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType


class Difference(NamedTuple):
    """How two tensors differ.

    Attributes:
        nmse: the normalised mean squared error, as ggml's tests measure it; for
            integers the part of them that differ.
        largest: the largest absolute difference.
        first: the first element that differs by more than the tolerance allows for an
            element of average size, None where none does.
    """

    nmse: float
    largest: float
    first: int | None


def compare(tensor: Tensor, ours: bytes, theirs: bytes, tolerance: float) -> Difference:
    """Compare bytes of a tensor.

    Args:
        tensor: whose.
        ours: what was computed now.
        theirs: what was recorded, as many bytes.
        tolerance: the largest nmse that counts as the same.
    """
    mine, right = _values(tensor.type, ours), _values(tensor.type, theirs)
    if mine.dtype.kind in "iu":
        differ = mine != right
        first = int(differ.argmax()) if differ.any() else None
        gap = np.abs(mine.astype(np.float64) - right.astype(np.float64))
        part = float(differ.mean()) if differ.size else 0.0
        return Difference(part, float(gap.max(initial=0)), first)
    expected = right.astype(np.float64)
    with np.errstate(all="ignore"):
        gap = np.abs(mine - expected)
    same = (mine == right) | (np.isnan(mine) & np.isnan(right))  # inf - inf is NaN
    gap = np.where(same, 0, gap)
    finite = np.where(np.isfinite(expected), expected, 0)
    size = float(np.sum(finite**2))
    nmse = float(np.sum(gap**2)) / (size or 1.0)
    usual = (size / max(1, expected.size)) ** 0.5
    far = ~(gap <= tolerance**0.5 * usual) & ~same
    first = int(far.argmax()) if far.any() else None
    return Difference(
        nmse if nmse == nmse else np.inf, float(gap.max(initial=0)), first
    )


def _values(type: GGMLType, data: bytes) -> Array:
    """The values; of what cuts through blocks, the bytes."""
    if len(data) % type.type_size:
        return np.frombuffer(data, np.uint8)
    if type not in CODECS:
        return np.frombuffer(data, DTYPES[type])
    if type in DTYPES:
        stored = np.frombuffer(data, DTYPES[type])
        count = stored.size
    else:
        stored = np.frombuffer(data, np.uint8)
        count = stored.size // type.type_size * type.blck_size
    out = np.empty((1, count), np.float32)
    CODECS[type].unpack(stored.reshape(1, -1), out)
    values: Array = out[0]
    return values
