"""ggml's broadcasting, which repeats a tensor, in terms of numpy's, which stretches 1."""

from __future__ import annotations

from ggrpc.devices.cpu.arrays import Array


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
