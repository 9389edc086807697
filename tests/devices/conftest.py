"""Devices that tests of several kernel families run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ggrpc.devices.cpu import CpuDevice

if TYPE_CHECKING:
    from ggrpc.devices.opencl import OpenClDevice


@pytest.fixture(params=[1, 3], ids=["one_thread", "three_threads"])
def cpu(request: pytest.FixtureRequest) -> Iterator[CpuDevice]:
    """The cpu device: each op must give the same, however its work is shared out."""
    device = CpuDevice(threads=request.param)
    yield device
    device.close()


@pytest.fixture(scope="session", params=["shared_memory", "own_memory"])
def opencl(request: pytest.FixtureRequest) -> Iterator[OpenClDevice]:
    """The first OpenCL device that works; once as if its memory were not the host's."""
    device = open_opencl(shares_memory=request.param == "shared_memory")
    yield device
    device.close()


def open_opencl(shares_memory: bool = True) -> OpenClDevice:
    """An OpenCL device, which CI always has."""
    from ggrpc.devices.opencl import OpenClDevice
    from ggrpc.devices.opencl.discovery import discover, why_not
    from ggrpc.devices.opencl.traits import traits_of

    usable = [found for found in discover() if not why_not(found)]
    if not usable:
        missing = "needs an OpenCL driver: apt-get install pocl-opencl-icd"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    traits = traits_of(usable[0].device)
    if not shares_memory:
        traits = traits._replace(shares_memory=False, local_size=16)
    return OpenClDevice(usable[0], CpuDevice(threads=2), traits)
