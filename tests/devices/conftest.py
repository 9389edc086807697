"""The devices for the tests of kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.runtime.traits import traits_of
from tests.support.drivers import usable_device


@pytest.fixture(params=[1, 3], ids=["one_thread", "three_threads"])
def cpu(request: pytest.FixtureRequest) -> Iterator[CpuDevice]:
    """The cpu device with several numbers of threads."""
    device = CpuDevice(threads=request.param)
    yield device
    device.close()


@pytest.fixture(scope="session", params=["shared_memory", "own_memory"])
def opencl(request: pytest.FixtureRequest) -> Iterator[OpenClDevice]:
    """The first usable OpenCL device, with host memory and with its own memory."""
    device = open_opencl(shares_memory=request.param == "shared_memory")
    yield device
    device.close()


def open_opencl(shares_memory: bool = True) -> OpenClDevice:
    """Open the OpenCL device, optionally as if it had its own memory."""
    found = usable_device()
    traits = traits_of(found.device)
    if not shares_memory:
        traits = traits._replace(
            is_cpu=False, shares_memory=False, local_size=16, int8_dot=""
        )
    return OpenClDevice(found, CpuDevice(threads=2), traits)
