"""Devices that tests of several kernel families run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ggrpc.devices.cpu import CpuDevice


@pytest.fixture(params=[1, 3], ids=["one_thread", "three_threads"])
def cpu(request: pytest.FixtureRequest) -> Iterator[CpuDevice]:
    """The cpu device: each op must give the same, however its work is shared out."""
    device = CpuDevice(threads=request.param)
    yield device
    device.close()
