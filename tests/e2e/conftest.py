from __future__ import annotations

import pytest

from ggrpc.devices.cpu import CpuDevice


@pytest.fixture(scope="session")
def cpu_device() -> CpuDevice:
    return CpuDevice(threads=2, weight_cache=0)
