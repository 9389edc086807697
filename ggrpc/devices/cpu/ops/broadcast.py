"""ggml's broadcasting in terms of numpy's, and reshaping without a copy.

ggml repeats a dimension any number of times; numpy repeats only dimensions of 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ggrpc.formats.codecs import Array


def repeated(small: Array, *large: Array) -> tuple[Array, ...]:
    """Views that make numpy's broadcasting repeat an array over others as ggml does.

    Args:
        small: the array to repeat; each of its dimensions divides that of the others.
        large: the other arrays, all of the same shape.

    Returns:
        Views of `small` and of each array of `large`. Dimensions that are repeated and
        not 1 are split into two axes.
    """
    narrow: list[int] = []
    wide: list[int] = []
    for n, m in zip(large[0].shape, small.shape, strict=True):
        if m in (1, n):
            narrow.append(m)
            wide.append(n)
        else:
            narrow += 1, m
            wide += n // m, m
    # Splitting an axis never makes numpy's reshape copy.
    return small.reshape(narrow), *(array.reshape(wide) for array in large)


def reshaped(array: Array, shape: Sequence[int]) -> Array | None:
    """A view with another shape; None if that would need a copy."""
    view = array.reshape(shape)
    return view if np.may_share_memory(view, array) else None


def scalar(value: float) -> Array:
    """A float32 array without dimensions; numpy handles it faster than a float."""
    return np.array(value, np.float32)
