"""The profiles of the devices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device, Placed, Program, no_checkpoint
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.profile import Profile
from ggrpc.op import Op
from ggrpc.types import GGMLType
from tests.support.case import BASE, HANDLE, Case
from tests.support.drivers import usable_device


def some_ops() -> Case:
    """A graph of a node with an OpenCL kernel and one without."""
    case = Case()
    x = case.leaf((64, 3), GGMLType.F16)
    y = case.node(Op.CPY, [x, case.leaf((64, 3))], x.ne)
    case.node(Op.SUM, [y], (1,))
    return case


def profiled(device: Device, runs: int = 2) -> Profile:
    case, profile = some_ops(), Profile()
    buffer = device.allocate(case.size)
    program = device.compile(case.graph(), {HANDLE: Placed(BASE, buffer)})
    buffer.put(0, memoryview(case.image))
    program.run()
    with buffer.read(0, case.size) as view:
        expected = bytes(view)
    for _ in range(runs):
        buffer.put(0, memoryview(case.image))
        program.run_timed(profile)
    with buffer.read(0, case.size) as view:
        assert bytes(view) == expected
    buffer.free()
    assert profile.runs == runs
    return profile


def times_of(profile: Profile) -> dict[tuple[bool, str], int]:
    return {(row.on_device, row.what): row.times for row in profile.rows}


def test_cpu_profile_has_a_row_for_each_op() -> None:
    profile = profiled(CpuDevice(threads=1))
    assert times_of(profile) == {(False, "CPY"): 2, (False, "SUM"): 2}
    assert sum(row.seconds for row in profile.rows) <= profile.running


def test_opencl_profile_has_kernels_and_host_work() -> None:
    device = OpenClDevice(usable_device(), CpuDevice(threads=1), profiling=True)
    profile = profiled(device)
    device.close()
    assert times_of(profile) == {
        (True, "CPY F16 copy"): 2,
        (False, "queue kernels"): 2,
        (False, "wait for the device"): 4,
        (False, "cpu: SUM"): 2,
    }
    assert all(row.seconds > 0 for row in profile.rows)


def test_discrete_memory_profile_has_transfers() -> None:
    found = usable_device()
    device = OpenClDevice(found, CpuDevice(threads=1), profiling=True)
    device.traits = device.traits._replace(shares_memory=False)
    profile = profiled(device, runs=1)
    device.close()
    assert (
        times_of(profile)[False, "move tensors"] == 3
    )  # copied there twice, and back once


def test_default_profile_has_whole_graphs() -> None:
    class Sleepless(Program):
        def run(self, checkpoint: Callable[[], None] = no_checkpoint) -> None:
            np.ones(1000).sum()

    profile = Profile()
    Sleepless().run_timed(profile)
    assert times_of(profile) == {(False, "graph"): 1}


def test_lines_have_shares_of_the_time() -> None:
    profile = Profile()
    with profile.run():
        pass
    profile.running = 2.0
    profile.add("MUL_MAT Q4_0 matvec", 0.5, on_device=True)
    profile.add("queue kernels", 1.5)
    first, *rows = profile.lines()
    assert first.startswith("1 graphs in 2.000 s")
    assert rows == [
        "host    75.0%    1.500 s        1 x queue kernels",
        "device  25.0%    0.500 s        1 x MUL_MAT Q4_0 matvec",
    ]
