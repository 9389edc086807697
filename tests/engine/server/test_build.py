from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.cache.folder import Folder
from ggrpc.engine.cache.index import FILE
from ggrpc.engine.client.client import connect
from ggrpc.engine.server.build import ServerOptions, build_server
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.wire.dialects import NEWEST
from ggrpc.errors import BindError, ConfigError, ConnectError, FileError
from tests.support.certificates import make_certificates

HERE = Endpoint("127.0.0.1", 0)


def options(**changes: Any) -> ServerOptions:
    return ServerOptions(HERE, [CpuDevice(threads=1, weight_cache=0)], **changes)


def test_plain_options_become_open_settings(tmp_path: Path) -> None:
    limits = Limits(clients=3)
    chosen = options(
        protocol="2.0,5.0",
        op_table="2025-07-20",
        limits=limits,
        allow=["10.0.0.0/8"],
        profile=True,
        grace=1.5,
    )
    with build_server(chosen) as server:
        settings = server.settings
    assert settings.devices is chosen.devices
    assert str(settings.negotiator) == "2.0.0 and 5.0.0"
    assert settings.op_table is not None
    assert settings.limits is limits
    assert not settings.allowlist.allows("11.0.0.1")
    assert (settings.tls, settings.cache) == (None, None)
    assert (settings.profile, settings.grace) == (True, 1.5)


def test_links_follow_the_options(tmp_path: Path) -> None:
    with build_server(options()) as server:
        comm = server.settings.comm
    assert (comm.enabled, comm.host, comm.peers) == (True, HERE.host, None)
    assert comm.allowlist is server.settings.allowlist
    assert (comm.server_tls, comm.client_tls) == (None, None)
    files = make_certificates(tmp_path)
    chosen = options(
        comm=False,
        comm_peers=["10.0.0.0/8"],
        comm_timeout=7,
        tls_certificate=files.server,
        tls_client_ca=files.ca,
    )
    with build_server(chosen) as server:
        comm = server.settings.comm
    assert (comm.enabled, comm.timeout) == (False, 7)
    assert comm.peers is not None
    assert comm.peers.contains("10.1.2.3")
    assert comm.server_tls is server.settings.tls
    assert comm.client_tls is not None


def test_server_with_tls_links_only_with_a_ca(tmp_path: Path) -> None:
    chosen = options(tls_certificate=make_certificates(tmp_path).server)
    with build_server(chosen) as server:
        assert server.settings.comm.client_tls is None


def test_versions_are_detected_by_default(tmp_path: Path) -> None:
    with build_server(options(negotiation_state=tmp_path / "state")) as server:
        assert str(server.settings.negotiator) == f"1.0.0 to {NEWEST.version}"


def test_server_listens_until_the_end_of_the_context() -> None:
    with build_server(options()) as server:
        (endpoint,) = server.endpoints
    with pytest.raises(ConnectError):
        connect(endpoint, timeout=5)


def test_cache_is_open_until_the_end_of_the_context(tmp_path: Path) -> None:
    chosen = options(cache=True, cache_dir=tmp_path, cache_limit=1 << 30)
    for _ in range(2):
        with build_server(chosen) as server:
            assert server.settings.cache is not None
            assert server.settings.cache.limit == 1 << 30
            assert (tmp_path / FILE).exists()


def test_disk_too_small_for_a_tensor_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Folder, "default_limit", lambda folder: 10 << 20)
    with build_server(options(cache=True, cache_dir=tmp_path)):
        pass
    assert "nothing will be cached: a tenth of the disk is too small" in caplog.text


def test_cache_is_closed_if_the_address_is_in_use(tmp_path: Path) -> None:
    with build_server(options()) as server:
        taken = ServerOptions(
            server.endpoints[0],
            server.settings.devices,
            cache=True,
            cache_dir=tmp_path,
        )
        with pytest.raises(BindError), build_server(taken):
            pass
    with build_server(options(cache=True, cache_dir=tmp_path)):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "9"}, "protocol '9'"),
        ({"op_table": "today"}, "'today'"),
        ({"cache_limit": 1 << 30}, "--cache-limit has no effect without -c"),
        (
            {"cache_limit": 1 << 30, "models": [Path("x")]},
            "--cache-limit has no effect",
        ),
        ({"cache_limit": 0, "cache": True}, "--cache-limit 0 B leaves no room"),
        ({"cache_limit": 10 << 20, "cache": True}, "--cache-limit 10.0 MiB leaves no"),
        ({"allow": ["lan"]}, "--allow"),
        ({"comm_peers": ["lan"]}, "--comm-peers: 'lan'"),
        ({"tls_key": "x"}, "need --tls-cert"),
        ({"tls_client_ca": "x"}, "need --tls-cert"),
    ],
    ids=lambda value: str(value),
)
def test_invalid_option_is_a_config_error(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message), build_server(options(**changes)):
        pass


@pytest.mark.parametrize(
    "changes",
    [{"tls_certificate": "/no/such"}, {"models": [Path("/no/such.gguf")]}],
    ids=lambda value: str(value),
)
def test_missing_file_is_a_file_error(changes: dict[str, Any]) -> None:
    with pytest.raises(FileError, match="/no/such"), build_server(options(**changes)):
        pass
