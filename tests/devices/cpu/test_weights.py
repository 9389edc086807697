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


class Bench:
    """A cache of three weights, and a count of what was unpacked."""

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
def bench() -> Bench:
    return Bench()


def test_weight_is_unpacked_once(bench: Bench) -> None:
    weight = bench.weight(2)
    first, again = weight.values(), weight.values()
    assert first is again is bench.weight(2).values()
    assert bench.unpacked == [2]
    assert bench.cache.used == SIZE


def test_weight_of_other_bytes_is_another(bench: Bench) -> None:
    other = bench.make_buffer()
    assert len({bench.weight(1), bench.weight(2), bench.weight(1, other)}) == 3


def test_weight_outlives_the_program_that_unpacked_it(bench: Bench) -> None:
    bench.weight(2).values()
    bench.weight(2).values()
    assert bench.unpacked == [2]


@pytest.mark.parametrize(
    ("offset", "size"), [(PACKED, 1), (2 * PACKED - 1, 5), (0, 900)]
)
def test_weight_is_unpacked_again_once_its_bytes_changed(
    bench: Bench, offset: int, size: int
) -> None:
    weight = bench.weight(1)
    weight.values()
    bench.buffer.fill(offset, size, 1)
    assert bench.cache.used == 0
    weight.values()
    assert bench.unpacked == [1, 1]


@pytest.mark.parametrize(
    ("offset", "size"), [(PACKED, 0), (0, PACKED), (2 * PACKED, 9)]
)
def test_weight_stays_when_bytes_beside_it_change(
    bench: Bench, offset: int, size: int
) -> None:
    weight = bench.weight(1)
    weight.values()
    bench.buffer.fill(offset, size, 1)
    weight.values()
    assert bench.unpacked == [1]


def test_weight_goes_when_its_buffer_is_freed(bench: Bench) -> None:
    other = bench.make_buffer()
    bench.weight(1).values()
    bench.weight(1, other).values()
    bench.buffer.free()
    assert bench.cache.used == SIZE


def test_weight_in_a_computed_buffer_is_never_kept(bench: Bench) -> None:
    weight = bench.weight(1)
    weight.values()
    bench.cache.computed(bench.buffer)
    assert bench.cache.used == 0
    assert weight.values() is None
    assert not bench.buffer.watched


def test_weight_is_not_kept_beyond_the_limit_while_others_are_in_use(
    bench: Bench,
) -> None:
    kept = [bench.weight(i).values() for i in range(4)]
    assert [values is not None for values in kept] == [True, True, True, False]
    assert bench.cache.used == 3 * SIZE


def test_weight_replaces_the_longest_unused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = [bench.weight(i) for i in range(4)]
    for i in 0, 1, 2, 0:
        held[i].values()
    monkeypatch.setattr(weights, "IDLE", 0)
    held[3].values()
    assert [weight.array is not None for weight in held] == [True, False, True, True]
    assert bench.cache.used == 3 * SIZE


def test_weight_drops_nothing_when_that_would_not_suffice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(limit=SIZE - 1)
    monkeypatch.setattr(weights, "IDLE", 0)
    assert bench.weight(0).values() is None
    assert bench.unpacked == []


def test_weight_is_not_kept_where_the_machine_is_short_of_memory(bench: Bench) -> None:
    bench.spare = SIZE - 1
    assert bench.weight(0).values() is None


def test_weight_without_memory_to_unpack_it_takes_no_room(bench: Bench) -> None:
    def fail() -> Array:
        raise MemoryError

    weight = bench.weight(0)
    weight.unpack = fail
    assert weight.values() is None
    assert bench.cache.used == 0


def test_weight_changed_while_it_is_unpacked_is_not_kept(bench: Bench) -> None:
    def change() -> Array:
        bench.buffer.fill(0, 1, 1)
        return np.zeros(100, np.float32)

    weight = bench.weight(0)
    weight.unpack = change
    assert weight.values() is not None
    assert weight.array is None
    assert bench.cache.used == 0


def test_cleared_cache_is_empty_and_goes_on(bench: Bench) -> None:
    weight = bench.weight(1)
    weight.values()
    bench.cache.clear()
    assert bench.cache.used == 0
    assert weight.values() is not None
