from __future__ import annotations

import pytest

from ggrpc.devices.device import Memory
from ggrpc.engine.server.quotas import MemoryQuota
from ggrpc.errors import OutOfMemory

GIB = 1 << 30
MEMORY = Memory(free=10 * GIB, total=16 * GIB)


def pair() -> tuple[MemoryQuota, MemoryQuota]:
    """A whole of 8 GiB and 4 pieces, and a part of 6 GiB and 3 pieces."""
    whole = MemoryQuota(8 * GIB, 4, "--all")
    return whole, MemoryQuota(6 * GIB, 3, "--each", whole)


def take(budget: MemoryQuota, size: int) -> None:
    with budget.taking(size):
        pass


def test_budget_without_a_size_passes_memory_on() -> None:
    budget = MemoryQuota(None, 10, "--all")
    take(budget, 1 << 50)
    assert budget.within(MEMORY) == MEMORY


def test_part_counts_in_the_whole() -> None:
    whole, part = pair()
    take(part, 2 * GIB)
    assert part.within(MEMORY) == (4 * GIB, 6 * GIB)
    assert whole.within(MEMORY) == (6 * GIB, 8 * GIB)
    part.give(2 * GIB)
    assert whole.within(MEMORY) == (8 * GIB, 8 * GIB)


@pytest.mark.parametrize(
    ("taken", "size", "flag"),
    [(0, 7 * GIB, "--each"), (3 * GIB, 6 * GIB, "--all")],
)
def test_passing_a_limit_names_it_and_takes_nothing(
    taken: int, size: int, flag: str
) -> None:
    whole, part = pair()
    take(whole, taken)
    before = whole.within(MEMORY), part.within(MEMORY)
    with pytest.raises(OutOfMemory, match=f"would exceed {flag}: "):
        take(part, size)
    assert (whole.within(MEMORY), part.within(MEMORY)) == before


def test_pieces_are_limited_as_bytes_are() -> None:
    _, part = pair()
    for _ in range(3):
        take(part, 0)
    with pytest.raises(OutOfMemory, match="3 of 3 buffers"):
        take(part, 0)


def test_piece_that_failed_is_not_counted() -> None:
    whole, part = pair()
    with pytest.raises(ZeroDivisionError), part.taking(GIB):
        raise ZeroDivisionError
    assert whole.within(MEMORY).free == 8 * GIB


def test_everything_is_given_back_at_once() -> None:
    whole, part = pair()
    for _ in range(3):
        take(part, GIB)
    part.give_all()
    assert part.within(MEMORY).free == 6 * GIB
    assert whole.within(MEMORY).free == 8 * GIB
