"""The cache of unpacked weights."""

from __future__ import annotations

import numpy as np
import pytest

from ggrpc.devices.cpu import weights
from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.weights import Weight, WeightCache
from ggrpc.formats.codecs import Array
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

NE = (10, 10, 1, 1)
PACKED = 200  # bytes of a tensor of F16
SIZE = 400  # bytes of it unpacked


class CacheSetup:
    """A cache with room for three weights, and a log of unpacked ones."""

    def __init__(self, limit: int = 3 * SIZE) -> None:
        self.spare = 1 << 30
        self.unpacked: list[int] = []
        self.cache = WeightCache(limit, lambda size: size <= self.spare)
        self.buffer = self.make_buffer()

    def make_buffer(self) -> CpuBuffer:
        return CpuBuffer(10 * PACKED, self.cache.changed, self.cache.freed)

    def weight(self, at: int, buffer: CpuBuffer | None = None) -> Weight:
        tensor = Tensor(1, GGMLType.F16, 1, NE, contiguous_nb(GGMLType.F16, NE))
        return self.cache.weight(
            buffer or self.buffer, at * PACKED, tensor, lambda: self._unpack(at)
        )

    def _unpack(self, at: int) -> Array:
        self.unpacked.append(at)
        return np.full(100, at, np.float32)


@pytest.fixture
def setup() -> CacheSetup:
    return CacheSetup()


def test_weight_is_unpacked_once(setup: CacheSetup) -> None:
    weight = setup.weight(2)
    first, again = weight.values(), weight.values()
    assert first is again is setup.weight(2).values()
    assert setup.unpacked == [2]
    assert setup.cache.used == SIZE


def test_other_bytes_are_another_weight(setup: CacheSetup) -> None:
    other = setup.make_buffer()
    assert len({setup.weight(1), setup.weight(2), setup.weight(1, other)}) == 3


def test_weight_outlives_the_program_that_unpacked_it(setup: CacheSetup) -> None:
    setup.weight(2).values()
    setup.weight(2).values()
    assert setup.unpacked == [2]


@pytest.mark.parametrize(
    ("offset", "size"), [(PACKED, 1), (2 * PACKED - 1, 5), (0, 900)]
)
def test_weight_is_unpacked_again_once_its_bytes_changed(
    setup: CacheSetup, offset: int, size: int
) -> None:
    weight = setup.weight(1)
    weight.values()
    setup.buffer.fill(offset, size, 1)
    assert setup.cache.used == 0
    weight.values()
    assert setup.unpacked == [1, 1]


@pytest.mark.parametrize(
    ("offset", "size"), [(PACKED, 0), (0, PACKED), (2 * PACKED, 9)]
)
def test_weight_stays_when_adjacent_bytes_change(
    setup: CacheSetup, offset: int, size: int
) -> None:
    weight = setup.weight(1)
    weight.values()
    setup.buffer.fill(offset, size, 1)
    weight.values()
    assert setup.unpacked == [1]


def test_weight_is_dropped_when_its_buffer_is_freed(setup: CacheSetup) -> None:
    other = setup.make_buffer()
    setup.weight(1).values()
    setup.weight(1, other).values()
    setup.buffer.free()
    assert setup.cache.used == SIZE


def test_weight_in_a_computed_buffer_is_not_cached(setup: CacheSetup) -> None:
    weight = setup.weight(1)
    weight.values()
    setup.cache.computed(setup.buffer)
    assert setup.cache.used == 0
    assert weight.values() is None
    assert not setup.buffer.watched


def test_weight_beyond_the_limit_does_not_evict_weights_in_use(
    setup: CacheSetup,
) -> None:
    kept = [setup.weight(i).values() for i in range(4)]
    assert [values is not None for values in kept] == [True, True, True, False]
    assert setup.cache.used == 3 * SIZE


def test_weight_replaces_the_least_recently_used(
    setup: CacheSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [setup.weight(i) for i in range(4)]
    for i in 0, 1, 2, 0:
        held[i].values()
    monkeypatch.setattr(weights, "IDLE_SECONDS", 0)
    held[3].values()
    assert [weight.array is not None for weight in held] == [True, False, True, True]
    assert setup.cache.used == 3 * SIZE


def test_weight_larger_than_the_limit_evicts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setup = CacheSetup(limit=SIZE - 1)
    monkeypatch.setattr(weights, "IDLE_SECONDS", 0)
    assert setup.weight(0).values() is None
    assert setup.unpacked == []


def test_weight_is_not_cached_if_memory_is_short(setup: CacheSetup) -> None:
    setup.spare = SIZE - 1
    assert setup.weight(0).values() is None


def test_weight_that_fails_to_unpack_takes_no_room(setup: CacheSetup) -> None:
    def fail() -> Array:
        raise MemoryError

    weight = setup.weight(0)
    weight.unpack = fail
    assert weight.values() is None
    assert setup.cache.used == 0


def test_weight_changed_while_it_is_unpacked_is_not_cached(setup: CacheSetup) -> None:
    def change() -> Array:
        setup.buffer.fill(0, 1, 1)
        return np.zeros(100, np.float32)

    weight = setup.weight(0)
    weight.unpack = change
    assert weight.values() is not None
    assert weight.array is None
    assert setup.cache.used == 0


def test_cleared_cache_is_empty_and_usable(setup: CacheSetup) -> None:
    weight = setup.weight(1)
    weight.values()
    setup.cache.clear()
    assert setup.cache.used == 0
    assert weight.values() is not None
