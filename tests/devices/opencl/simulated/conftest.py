"""The simulated GPU, and its kernels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ggrpc.devices.opencl import OpenClDevice
from ggrpc.devices.opencl.runtime import build
from tests.devices.conftest import open_opencl


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kernels", type=Path, help="a folder to use for `kernels/`")


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Iterator[OpenClDevice]:
    with pytest.MonkeyPatch.context() as patch:
        if kernels := request.config.getoption("--kernels"):
            patch.setattr(build, "KERNELS", kernels)
        with open_opencl(shares_memory=False) as device:
            yield device
