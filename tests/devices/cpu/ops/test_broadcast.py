"""ggml's broadcasting, by views."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu.ops.broadcast import repeated, scalar


@pytest.mark.parametrize(
    "small",
    [(2, 3, 4, 6), (1, 1, 1, 6), (1, 3, 1, 1), (1, 1, 2, 3), (2, 1, 4, 2)],
)
def test_repeated_views_broadcast_as_ggml_repeats(small: tuple[int, ...]) -> None:
    shape = (2, 3, 4, 6)
    a, b = np.arange(144.0).reshape(shape), np.random.default_rng(0).random(small)
    out = np.empty(shape)
    narrow, wide, target = repeated(b, a, out)
    np.add(wide, narrow, target)
    times = [n // m for n, m in zip(shape, small, strict=True)]
    np.testing.assert_array_equal(out, a + np.tile(b, times))


def test_repeated_views_share_memory_of_arrays_with_gaps() -> None:
    wide = np.zeros((3, 8, 6, 10)).transpose(0, 2, 1, 3)[:, ::2, :, 1:9]
    narrow = np.ones((1, 3, 4, 2))
    small, large = repeated(narrow, wide)
    assert np.may_share_memory(small, narrow)
    assert np.may_share_memory(large, wide)


def test_scalar_is_a_float32() -> None:
    assert (scalar(0.1).dtype, scalar(0.1).shape) == (np.float32, ())
