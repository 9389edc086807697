from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device
from ggrpc.engine.client.client import connect
from ggrpc.engine.client.remote_device import RemoteServer
from ggrpc.engine.compute.device_tensor import DeviceTensor
from ggrpc.errors import ConfigError, GraphError, OutOfMemory
from ggrpc.formats.nmse import nmse
from ggrpc.types import GGMLType
from tests.support.servers import running


@pytest.fixture(params=["local", "remote"], scope="module")
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    if request.param == "local":
        yield CpuDevice(threads=1)
    else:
        with running() as endpoint, RemoteServer(connect(endpoint, timeout=60)) as far:
            yield far.device()


def test_array_is_read_back(device: Device) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    with DeviceTensor.of(device, array) as tensor:
        assert (tensor.type, tensor.ne, tensor.nbytes) == (
            GGMLType.I16,
            (4, 3, 2, 1),
            48,
        )
        assert np.array_equal(tensor.numpy(), array)
        tensor.set(-array)
        assert np.array_equal(tensor.numpy(), -array)


def test_array_is_quantized(device: Device) -> None:
    array = np.random.default_rng(0).standard_normal((5, 64), np.float32)
    with DeviceTensor.of(device, array, "q8_0") as tensor:
        assert tensor.nbytes == 5 * 68
        assert nmse(tensor.numpy(), array) < 1e-4
        blocks = tensor.bytes()
        with DeviceTensor(device, "Q8_0", 64, 5) as copy:
            assert not copy.numpy().any()
            copy.set_bytes(blocks)
            assert np.array_equal(copy.numpy(), tensor.numpy())


def test_data_of_another_size_is_refused(device: Device) -> None:
    with DeviceTensor(device, "F32", 4, 2) as tensor:
        with pytest.raises(
            ConfigError, match=r"shape \(4, 2\) does not fit ne \[4, 2, 1, 1\]"
        ):
            tensor.set(np.zeros((4, 2), np.float32))
        with pytest.raises(ConfigError, match="has 32 bytes, but its data has 31"):
            tensor.set_bytes(bytes(31))
    with pytest.raises(GraphError, match="not a multiple"):
        DeviceTensor(device, "Q4_0", 33)
    with pytest.raises(OutOfMemory):
        DeviceTensor(device, "F32", 1 << 30, 1 << 20)
