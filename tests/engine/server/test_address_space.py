from __future__ import annotations

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.server.address_space import GAP, AddressSpace
from ggrpc.errors import GraphError, RefusedError
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType

NE = (4, 1, 1, 1)


@pytest.fixture(scope="module")
def device() -> CpuDevice:
    return CpuDevice(threads=1, weight_cache=0)


def tensor(handle: int, data: int) -> Tensor:
    nb = contiguous_nb(GGMLType.F32, NE)
    return Tensor(1, GGMLType.F32, handle, NE, nb, data=data)


def test_buffers_are_apart_and_never_share_an_address(device: CpuDevice) -> None:
    space = AddressSpace()
    assert not space.used
    first = space.add(device.allocate(100), device)
    second = space.add(device.allocate(0), device)
    space.remove(first)
    third = space.add(device.allocate(100), device)
    assert second >= first + 100 + GAP
    assert third > second
    assert space.used


def test_freed_and_foreign_buffers_are_refused(device: CpuDevice) -> None:
    space = AddressSpace()
    handle = space.add(device.allocate(16), device)
    space.remove(handle)
    for stranger in (handle, 0, 2**64 - 1):
        with pytest.raises(RefusedError, match="does not belong to this session"):
            space.find(stranger)


def test_place_of_a_tensor_is_counted_from_the_base(device: CpuDevice) -> None:
    space = AddressSpace()
    handle = space.add(device.allocate(32), device)
    whole = space.whole(tensor(handle, handle + 16))
    part = space.part(tensor(handle, handle + 16), 4, 12)
    assert whole == (space.find(handle).buffer, 16)
    assert part == (space.find(handle).buffer, 20)
    with pytest.raises(GraphError, match="do not lie inside"):
        space.whole(tensor(handle, handle + 20))
    for data, offset, size in [(16, 4, 13), (32, 0, 1), (-1, 0, 1), (0, 2**64 - 1, 2)]:
        with pytest.raises(RefusedError, match="do not lie inside"):
            space.part(tensor(handle, handle + data), offset, size)


def test_clear_frees_all_and_counts_the_bytes(device: CpuDevice) -> None:
    space = AddressSpace()
    for size in (100, 200):
        space.add(device.allocate(size), device)
    assert space.clear() == 300
    assert space.clear() == 0


def test_buffers_are_known_by_device(device: CpuDevice) -> None:
    space, other = AddressSpace(), CpuDevice(threads=1, weight_cache=0)
    mine = space.add(device.allocate(1), device)
    space.add(other.allocate(1), other)
    assert list(space.on(device)) == [mine]
