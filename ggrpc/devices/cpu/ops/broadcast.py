"""Other shapes for the same memory: numpy's reshape, and broadcasting as ggml does it.

ggml's broadcasting repeats a tensor; numpy's stretches a 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ggrpc.formats.codecs import Array


def repeated(small: Array, *large: Array) -> tuple[Array, ...]:
    """Views of arrays such that numpy's broadcasting repeats the first over the others.

    Args:
        small: each of its dimensions divides that of the others.
        large: arrays of one shape.

    Returns:
        Views of `small` and of each of `large`, with an axis more for each dimension
        that is repeated but not 1.
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
    """The same memory in another shape, or None where only a copy would do."""
    view = array.reshape(shape)
    return view if np.may_share_memory(view, array) else None


def scalar(value: float) -> Array:
    """A float32 that numpy takes as it is, sooner than it takes Python's numbers."""
    return np.array(value, np.float32)
