"""The normalised mean squared error, by which ggml compares backends."""

from __future__ import annotations

import numpy as np

from ggrpc.formats.codecs import Array


def nmse(actual: Array, expected: Array) -> float:
    """The sum of squared errors over the sum of squared expected values.

    Args:
        actual: the values to judge, of any real dtype.
        expected: the values to compare with, of the same shape.

    Returns:
        The error; infinity if an element is infinite or NaN in one array only.
    """
    return nmse_of_errors(absolute_errors(actual, expected), expected)


@np.errstate(all="ignore")  # the square of a large number is infinity
def nmse_of_errors(errors: Array, expected: Array) -> float:
    """The NMSE, computed from the result of `absolute_errors`.

    If all expected values are zeros, this is the sum of squared errors.
    """
    error = float(np.sum(errors**2)) / (sum_of_squares(expected) or 1.0)
    return error if error == error else float("inf")


@np.errstate(all="ignore")
def absolute_errors(actual: Array, expected: Array) -> Array:
    """The absolute difference of each element, as float64, in the shape of the arrays.

    Equal infinities, and NaN in both arrays, count as equal.
    """
    errors = np.abs(actual - expected.astype(np.float64))
    equal = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    return np.where(equal, 0, errors)


@np.errstate(all="ignore")
def sum_of_squares(values: Array) -> float:
    """The sum of the squares of all finite elements."""
    finite = np.where(np.isfinite(values), values, 0).astype(np.float64)
    return float(np.sum(finite**2))
