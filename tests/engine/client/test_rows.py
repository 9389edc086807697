"""Rows of a tensor on a server; protocol 8.0.0 transfers them in one message."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ggrpc.engine.client.client import Client, connect
from ggrpc.errors import ConnectionLost
from tests.devices.conftest import open_opencl
from tests.support.clients import byte_vector
from tests.support.paths import NEWEST
from tests.support.processes import native_serving
from tests.support.servers import running

SIZE = 3 << 20


@pytest.fixture(params=["cpu", "own_memory", "native"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    if request.param == "native":
        serving = native_serving(NEWEST)
    elif request.param == "cpu":
        serving = running()
    else:
        serving = running(open_opencl(shares_memory=False))
    with serving as endpoint, connect(endpoint, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("size", "stride", "offset"), [(4096, 8192, 0), (4096, 4096, 64), (30, 70, 11)]
)
def test_only_the_rows_are_written(
    client: Client, size: int, stride: int, offset: int
) -> None:
    tensor = byte_vector(client, SIZE)
    before = np.arange(SIZE, dtype=np.uint64).astype(np.uint8)
    client.set_tensor(tensor, before)
    count = (SIZE - offset - size) // stride + 1
    rows = np.random.default_rng(1).integers(0, 256, (count, size), np.uint8)

    client.set_tensor_2d(tensor, rows, size, stride, offset)

    expected = before.copy()
    for row, data in enumerate(rows):
        start = offset + row * stride
        expected[start : start + size] = data
    after = np.empty_like(before)
    client.get_tensor(tensor, memoryview(after))
    assert np.array_equal(after, expected)
    back = np.empty_like(rows)
    client.get_tensor_2d(tensor, memoryview(back).cast("B"), size, stride, offset)
    assert np.array_equal(back, rows)


@pytest.mark.parametrize("change", [{"offset": 1}, {"stride": 17}, {"size": 65}])
def test_rows_outside_end_the_session_alone(change: dict[str, int]) -> None:
    with running() as endpoint, connect(endpoint, timeout=60) as other:
        with connect(endpoint, timeout=60) as client:
            tensor = byte_vector(client, 64)
            place = {"size": 16, "stride": 16} | change
            client.set_tensor_2d(tensor, bytes(64), **place)
            with pytest.raises(ConnectionLost):
                client.memory()
        assert other.memory().total
