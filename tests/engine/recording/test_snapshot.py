"""Inputs that a graph overwrites."""

from __future__ import annotations

import random

import pytest

from ggrpc.engine.recording.snapshot import RangeSet, clobbered_ranges
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

BUFFER = 3
ROW = 16  # bytes of each tensor


def tensor(id: int, at: int, op: Op = Op.NONE, *src: int, of: int = 0) -> Tensor:
    """Four floats at an address."""
    ne = (4, 1, 1, 1)
    nb = contiguous_nb(GGMLType.F32, ne)
    sources = (*src, *(0,) * (10 - len(src)))
    return Tensor(
        id, GGMLType.F32, BUFFER, ne, nb, op, src=sources, view_src=of, data=at
    )


def clobbered(*tensors: Tensor) -> list[tuple[int, int, int]]:
    nodes = [t.id for t in tensors if t.op]
    return [tuple(piece) for piece in clobbered_ranges(Graph.of(tensors, nodes))]


def test_input_that_nothing_overwrites_is_not_clobbered() -> None:
    assert clobbered(tensor(1, 0), tensor(2, ROW, Op.SQR, 1)) == []


def test_input_whose_memory_is_reused_is_clobbered() -> None:
    middle = tensor(2, ROW, Op.SQR, 1)
    assert clobbered(tensor(1, 0), middle, tensor(3, 0, Op.SQRT, 2)) == [
        (BUFFER, 0, ROW)
    ]


def test_only_the_bytes_that_are_reused_are_clobbered() -> None:
    middle = tensor(2, 2 * ROW, Op.SQR, 1)
    after = tensor(3, ROW // 2, Op.SQRT, 2)
    assert clobbered(tensor(1, 0), middle, after) == [(BUFFER, ROW // 2, ROW)]


def test_result_that_is_overwritten_later_is_not_clobbered() -> None:
    first, second = tensor(2, ROW, Op.SQR, 1), tensor(3, 2 * ROW, Op.SQR, 2)
    assert clobbered(tensor(1, 0), first, second, tensor(4, ROW, Op.SQRT, 3)) == []


def test_cache_that_is_written_before_it_is_read_is_not_clobbered() -> None:
    x, cache = tensor(1, 0), tensor(2, ROW)
    put = tensor(3, ROW, Op.CPY, 1, 2, of=2)
    assert clobbered(x, cache, put, tensor(4, 2 * ROW, Op.SQR, 3)) == []


def test_state_that_is_read_before_it_is_written_is_clobbered() -> None:
    state = tensor(1, 0)
    new = tensor(2, ROW, Op.SQR, 1)
    put = tensor(3, 0, Op.CPY, 2, 1, of=1)
    assert clobbered(state, new, put) == [(BUFFER, 0, ROW)]
    in_place = tensor(2, 0, Op.SQR, 1, of=1)
    assert clobbered(state, in_place) == [(BUFFER, 0, ROW)]


@pytest.mark.parametrize("seed", range(5))
def test_range_set_equals_a_set_of_addresses(seed: int) -> None:
    rng = random.Random(seed)
    ranges, model = RangeSet(), set()
    for _ in range(200):
        start = rng.randrange(300)
        end = start + rng.randrange(12)
        inside = {a for s, e in ranges.inside(start, end) for a in range(s, e)}
        gaps = {a for s, e in ranges.gaps(start, end) for a in range(s, e)}
        assert inside == model & set(range(start, end))
        assert gaps == set(range(start, end)) - model
        if rng.random() < 0.3:
            ranges.add(start, end)
            model |= set(range(start, end))
        ends = [edge for range_ in ranges for edge in range_]
        assert ends == sorted(set(ends))  # disjoint, and in order
    assert {a for s, e in ranges for a in range(s, e)} == model
