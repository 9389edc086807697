"""Compares a result of a replay with the result of the recorded server."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ggrpc.formats.codecs import CODECS, DTYPES, Array
from ggrpc.formats.nmse import absolute_errors, nmse_of_errors, sum_of_squares
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType


class Difference(NamedTuple):
    """The difference between two versions of a tensor.

    Attributes:
        nmse: the normalised mean squared error, as ggml's tests measure it; for
            integers, the share of elements that differ.
        largest: the largest absolute difference.
        first: the index of the first element that differs by more than the tolerance
            allows for an element of RMS size; None if no element does.
    """

    nmse: float
    largest: float
    first: int | None


@np.errstate(all="ignore")  # such as the conversion of large numbers to F32
def compare(tensor: Tensor, ours: bytes, theirs: bytes, tolerance: float) -> Difference:
    """Compare two versions of a tensor's bytes.

    Args:
        tensor: the tensor that the bytes belong to.
        ours: the bytes from the replay.
        theirs: the bytes from the recording, of the same length.
        tolerance: the largest NMSE that counts as equal.
    """
    actual, expected = _values(tensor.type, ours), _values(tensor.type, theirs)
    if actual.dtype.kind in "iu":
        differ = actual != expected
        errors = np.abs(actual.astype(np.float64) - expected.astype(np.float64))
        share = float(differ.mean()) if differ.size else 0.0
        return Difference(share, float(errors.max(initial=0)), _first(differ))
    errors = absolute_errors(actual, expected)
    root_mean_square = (sum_of_squares(expected) / max(1, expected.size)) ** 0.5
    differ = ~(errors <= tolerance**0.5 * root_mean_square)
    largest = float(errors.max(initial=0))
    return Difference(nmse_of_errors(errors, expected), largest, _first(differ))


def _first(differ: Array) -> int | None:
    """The index of the first element that is true."""
    return int(differ.argmax()) if differ.any() else None


def _values(type: GGMLType, data: bytes) -> Array:
    """The decoded values, or the bytes themselves if they end inside a block."""
    if len(data) % type.type_size:
        return np.frombuffer(data, np.uint8)
    if type not in CODECS:
        return np.frombuffer(data, DTYPES[type])
    if type in DTYPES:
        raw = np.frombuffer(data, DTYPES[type])
        count = raw.size
    else:
        raw = np.frombuffer(data, np.uint8)
        count = raw.size // type.type_size * type.blck_size
    out = np.empty((1, count), np.float32)
    CODECS[type].unpack(raw.reshape(1, -1), out)
    values: Array = out[0]
    return values
