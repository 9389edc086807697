from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.client.client import Client
from ggrpc.engine.client.registry import Registry, connect, is_rpc
from ggrpc.errors import Cancelled, ConfigError, ConnectError, RefusedError
from tests.support.processes import free_port
from tests.support.servers import running


def test_devices_of_a_server_are_found_by_name() -> None:
    two = [CpuDevice(threads=1, weight_cache=0) for _ in range(2)]
    with running(*two) as endpoint, Registry(timeout=60) as registry:
        device = registry[f"rpc://{endpoint}/1"]
        assert is_rpc(device)
        assert is_rpc(device.allocate(8))
        assert list(registry) == [f"rpc://{endpoint}/{n}" for n in range(2)]
        assert registry.add_server(str(endpoint))[0].name in registry
    assert len(registry) == 0
    with pytest.raises(Cancelled):
        device.memory()


def test_threads_connect_to_a_server_once() -> None:
    with running() as endpoint, Registry(timeout=60) as registry:
        name = f"rpc://{endpoint}/0"
        assert name not in registry
        with ThreadPoolExecutor(8) as pool:
            devices = set(pool.map(registry.__getitem__, [name] * 8))
        assert devices == set(registry.add_server(endpoint))
        assert name in registry


def test_local_devices_are_opened_once() -> None:
    with Registry(threads=1) as registry:
        assert registry["cpu"] is registry["cpu"]
        assert not is_rpc(registry["cpu"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rpc://localhost", "write rpc://host:port/0"),
        ("rpc://localhost:1/x", "write rpc://host:port/0"),
        ("gpu", "there is no device 'gpu'"),
    ],
)
def test_invalid_name_is_refused(name: str, message: str) -> None:
    with Registry() as registry, pytest.raises(ConfigError, match=message):
        registry[name]


def test_invalid_device_number_is_refused() -> None:
    with (
        running() as endpoint,
        Registry(timeout=60) as registry,
        pytest.raises(ConfigError, match="has no device 3: it has 1 devices"),
    ):
        registry[f"rpc://{endpoint}/3"]


def test_version_and_op_table_can_be_chosen() -> None:
    with (
        running() as endpoint,
        connect(str(endpoint), protocol="3.6.1", op_table="2025-12-20") as server,
    ):
        assert server.version == "3.6.1"
        assert server.client.dialect.table.date == "2025-12-11"
    with pytest.raises(ConnectError):
        connect(f"127.0.0.1:{free_port()}", timeout=5)


def test_server_without_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "device_count", lambda self: 0)
    with running() as endpoint, pytest.raises(RefusedError, match="no device"):
        connect(endpoint, timeout=60)
