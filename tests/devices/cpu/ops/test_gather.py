"""The order of axes, and the split of arrays along other axes.

test_padding.py and test_upscaling.py test the ops that gather elements.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.devices.cpu.compiler import Compiler
from ggrpc.devices.cpu.ops.gather import across, shrinking_first
from ggrpc.devices.cpu.weights import WeightCache
from ggrpc.devices.cpu.workers import Workers


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    workers = Workers(2)
    yield Compiler({}, workers, WeightCache(0, lambda nbytes: True))
    workers.close()


def test_axes_that_shrink_come_first() -> None:
    x, y = np.empty((2, 8, 3, 4)), np.empty((4, 2, 3, 400))
    assert shrinking_first(x, y) == [1, 2, 0, 3]


@pytest.mark.parametrize("axis", range(4))
def test_large_array_is_split_along_other_axes(compiler: Compiler, axis: int) -> None:
    shape = (3, 5, 200, 300)
    covered = np.zeros(shape, int)
    parts = across(compiler, shape, axis)
    for at in parts:
        assert covered[at].shape[axis] == shape[axis]
        covered[at] += 1
    assert (covered == 1).all()
    assert len(parts) == 2
