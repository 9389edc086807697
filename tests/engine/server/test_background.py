from __future__ import annotations

import gc
from pathlib import Path

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.cache.index import FILE
from ggrpc.engine.client.registry import connect
from ggrpc.engine.server.background import start_server
from ggrpc.errors import BindError, ConfigError, ConnectError


def test_server_answers_until_it_is_stopped() -> None:
    with (
        start_server("127.0.0.1:0", n_threads=1) as server,
        connect(server.endpoint, timeout=60) as node,
    ):
        assert node.device().memory().total > 0
    with pytest.raises(ConnectError):
        connect(server.endpoint, timeout=5)


def test_open_devices_are_served() -> None:
    devices = [CpuDevice(threads=1)] * 2
    with (
        start_server("127.0.0.1:0", devices=devices) as server,
        connect(server.endpoint, timeout=60) as node,
    ):
        assert len(node.devices) == 2


def test_server_without_a_reference_keeps_serving() -> None:
    endpoint = start_server("127.0.0.1:0", n_threads=1).endpoint
    gc.collect()
    with connect(endpoint, timeout=60) as node:
        assert node.device().memory().total > 0


def test_cache_is_in_its_folder_and_closed_with_the_server(tmp_path: Path) -> None:
    for _ in range(2):
        with start_server("127.0.0.1:0", n_threads=1, cache_dir=tmp_path) as server:
            assert (tmp_path / FILE).exists()
            with pytest.raises(BindError):
                start_server(server.endpoint, cache_dir=tmp_path)


def test_links_can_be_forbidden_and_their_peers_named() -> None:
    with start_server("127.0.0.1:0", n_threads=1, comm=False) as server:
        assert not server._server.settings.comm.enabled
    with start_server("127.0.0.1:0", n_threads=1, comm_peers=["10.0.0.9"]) as server:
        assert server._server.settings.comm.may_connect("10.0.0.9", "127.0.0.1")


def test_invalid_arguments_raise() -> None:
    with pytest.raises(ConfigError, match="there is no device 'gpu'"):
        start_server("127.0.0.1:0", devices="gpu")
    with (
        start_server("127.0.0.1:0", n_threads=1) as server,
        pytest.raises(BindError),
    ):
        start_server(server.endpoint)
