"""Work-groups stay within what a device says, and within what its kernels allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyopencl as cl
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Placed
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.runtime.build import Builder, KernelKey
from ggrpc.devices.opencl.runtime.launch_config import LaunchConfig
from ggrpc.devices.opencl.runtime.traits import traits_of
from ggrpc.devices.opencl.runtime.work_group import WorkGroup, group_of
from ggrpc.errors import DeviceError
from ggrpc.formats.nmse import nmse
from ggrpc.types import GGMLType
from tests.devices.conftest import open_opencl
from tests.devices.cpu.ops.test_matmul import mul_mat
from tests.support import cases
from tests.support.case import BASE, HANDLE, Case, run_case
from tests.support.cases.experts import mul_mat_id
from tests.support.drivers import usable_device

LIMIT = 5e-4  # processors round the other operand to 8 bits
KIB = 1024
Q4_0, Q6_K, F16 = GGMLType.Q4_0, GGMLType.Q6_K, GGMLType.F16
CASES = cases.all_cases()
ATTENTIONS = "long", "mask_of_heads", "widths_(576, 512)"
LARGE = LaunchConfig(items=256, rows=4, tile_rows=128, tile_tokens=128, depth=4)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, WorkGroup]:
    """The work-groups that were launched, as the driver sees them, by kernel."""
    groups: dict[str, WorkGroup] = {}
    enqueue = cl.enqueue_nd_range_kernel

    def record(queue: Any, kernel: Any, size: Any, local: Any, *rest: Any) -> cl.Event:
        memory = group_of(kernel, queue.device).local_memory
        groups[kernel.function_name] = WorkGroup(local[0], memory)
        return enqueue(queue, kernel, size, local, *rest)

    monkeypatch.setattr(cl, "enqueue_nd_range_kernel", record)
    return groups


# Whether the kernels are those for processors, and what the device claims. OpenCL's
# full profile has at least 32 KiB.
CLAIMS = {
    "gpu_48_kib": (False, WorkGroup(1024, 48 * KIB)),
    "gpu_32_kib": (False, WorkGroup(256, 32 * KIB)),
    "gpu_8_kib": (False, WorkGroup(32, 8 * KIB)),
    "processor_48_kib": (True, WorkGroup(1, 48 * KIB)),
    "processor_32_kib": (True, WorkGroup(1, 32 * KIB)),
}


@pytest.fixture(params=CLAIMS)
def device(request: pytest.FixtureRequest) -> Iterator[OpenClDevice]:
    """A device that claims to allow small work-groups, with large sizes."""
    is_cpu, most = CLAIMS[request.param]
    with open_opencl(shares_memory=is_cpu) as device:
        device.traits = device.traits._replace(max_group=most, launch_config=LARGE)
        yield device


def product(type: GGMLType, k: int, rows: int) -> Case:
    case = Case()
    mul_mat(case, case.leaf((k, 77), type), case.leaf((k, rows)))
    return case


@pytest.mark.parametrize(
    "case",
    [
        *(product(type, 512, rows) for type in (Q6_K, F16) for rows in (1, 7, 150)),
        *(product(type, 4096 + 256, 20) for type in (Q4_0, F16)),
        *(CASES[f"attention-FLASH_ATTN_EXT-{name}"] for name in ATTENTIONS),
        *(mul_mat_id(type, 19, k=512, n=37, n_expert=5) for type in (Q6_K, F16)),
    ],
)
def test_work_groups_stay_within_what_the_device_says(
    device: OpenClDevice, launched: dict[str, WorkGroup], case: Case
) -> None:
    check(device, case)
    assert launched
    for name, group in launched.items():
        assert group.fits(device.traits.max_group), name


def check(device: OpenClDevice, case: Case) -> None:
    with CpuDevice(threads=1) as cpu:
        expected = run_case(cpu, case)
    for name, values in run_case(device, case).items():
        assert nmse(values, expected[name]) < LIMIT


def test_sizes_are_those_of_the_driver() -> None:
    with open_opencl(shares_memory=False) as device:
        build, config = device.builder.group, LARGE
        defines = {"LOCAL": config.items, "ROWS": config.rows, "TOKENS": 8, "TYPE": 0}
        key = KernelKey("gpu_matvec", tuple(defines.items()), "matvec")
        assert build(key).local_memory == config.matvec_group().local_memory
        tile = {"DEPTH": 4, "ROWS": 128, "TOKENS": 128, "TYPE": 0}
        key = KernelKey("gpu_matmat", tuple(tile.items()), "matmat")
        assert build(key).local_memory == config.tile_group(128).local_memory


def test_traits_have_what_the_device_says() -> None:
    device = usable_device().device
    most = traits_of(device).max_group
    assert most.local_memory == device.local_mem_size
    assert most.items <= device.max_work_group_size


@pytest.mark.parametrize("rows", [1, 150])
def test_kernel_with_many_registers_gets_fewer_work_items(
    monkeypatch: pytest.MonkeyPatch, launched: dict[str, WorkGroup], rows: int
) -> None:
    allow_items(monkeypatch, 8)
    with open_opencl(shares_memory=False) as device:
        check(device, product(Q6_K, 512, rows))
    assert {group.items for group in launched.values()} == {8}


def test_rows_are_shared_by_as_many_work_items_as_the_kernel_allows(
    monkeypatch: pytest.MonkeyPatch, launched: dict[str, WorkGroup]
) -> None:
    allow_items(monkeypatch, 5)
    with open_opencl(shares_memory=False) as device:
        check(device, CASES["norms-RMS_NORM-heads"])
    assert {group.items for group in launched.values()} == {5}


def test_work_group_that_cannot_be_smaller_is_a_device_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    allow_items(monkeypatch, 1)
    with open_opencl(shares_memory=False) as device:
        case = product(Q6_K, 512, 150)
        buffer = device.allocate(case.size)
        with pytest.raises(DeviceError, match=r"^opencl:0: the kernel matmat needs"):
            device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})


def allow_items(monkeypatch: pytest.MonkeyPatch, items: int) -> None:
    """Let kernels have so many registers that they allow few work-items."""
    group = Builder.group

    def limited(builder: Builder, key: KernelKey) -> WorkGroup:
        return group(builder, key)._replace(items=items)

    monkeypatch.setattr(Builder, "group", limited)
