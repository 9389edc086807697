from __future__ import annotations

import pytest

from ggrpc.devices.device import Memory
from ggrpc.engine.server.quotas import MemoryQuota
from ggrpc.errors import OutOfMemory

GIB = 1 << 30
MEMORY = Memory(free=10 * GIB, total=16 * GIB)


def pair() -> tuple[MemoryQuota, MemoryQuota]:
    """A quota of 8 GiB and 4 buffers, and its child of 6 GiB and 3 buffers."""
    parent = MemoryQuota(8 * GIB, 4, "--all")
    return parent, MemoryQuota(6 * GIB, 3, "--each", parent)


def reserve(quota: MemoryQuota, size: int) -> None:
    with quota.reserved_unless_error(size):
        pass


def test_quota_without_a_size_does_not_reduce_memory() -> None:
    quota = MemoryQuota(None, 10, "--all")
    reserve(quota, 1 << 50)
    assert quota.within(MEMORY) == MEMORY


def test_parent_counts_what_its_child_counts() -> None:
    parent, child = pair()
    reserve(child, 2 * GIB)
    assert child.within(MEMORY) == (4 * GIB, 6 * GIB)
    assert parent.within(MEMORY) == (6 * GIB, 8 * GIB)
    child.release(2 * GIB)
    assert parent.within(MEMORY) == (8 * GIB, 8 * GIB)


@pytest.mark.parametrize(
    ("taken", "size", "flag"),
    [(0, 7 * GIB, "--each"), (3 * GIB, 6 * GIB, "--all")],
)
def test_exceeded_limit_is_named_and_nothing_is_counted(
    taken: int, size: int, flag: str
) -> None:
    parent, child = pair()
    reserve(parent, taken)
    before = parent.within(MEMORY), child.within(MEMORY)
    with pytest.raises(OutOfMemory, match=f"would exceed {flag}: "):
        reserve(child, size)
    assert (parent.within(MEMORY), child.within(MEMORY)) == before


def test_number_of_buffers_is_limited() -> None:
    _, child = pair()
    for _ in range(3):
        reserve(child, 0)
    with pytest.raises(OutOfMemory, match="3 of 3 buffers"):
        reserve(child, 0)


def test_buffer_that_failed_is_not_counted() -> None:
    parent, child = pair()
    with pytest.raises(ZeroDivisionError), child.reserved_unless_error(GIB):
        raise ZeroDivisionError
    assert parent.within(MEMORY).free == 8 * GIB


def test_give_all_frees_everything() -> None:
    parent, child = pair()
    for _ in range(3):
        reserve(child, GIB)
    child.release_all()
    assert child.within(MEMORY).free == 6 * GIB
    assert parent.within(MEMORY).free == 8 * GIB
