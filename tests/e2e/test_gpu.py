"""llama.cpp's client on a processor that uses the kernels of GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

import ggrpc
from tests.devices.conftest import open_opencl
from tests.e2e.test_generate import MODELS, compare, model
from tests.support.paths import NEWEST


@pytest.mark.parametrize("name", MODELS)
def test_native_client_generates_as_local_with_gpu_kernels(
    tmp_path: Path, name: str
) -> None:
    device = open_opencl(shares_memory=False)
    with ggrpc.start_server("127.0.0.1:0", devices=[device]) as server:
        compare(NEWEST, model(name), tmp_path, MODELS[name], server.endpoint)
    device.close()
