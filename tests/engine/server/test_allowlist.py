from __future__ import annotations

import pytest

from ggrpc.engine.client.client import connect
from ggrpc.engine.server.allowlist import Allowlist
from ggrpc.errors import ConfigError, ConnectionLost
from tests.support.servers import running


@pytest.mark.parametrize(
    ("networks", "host", "allowed"),
    [
        ([], "203.0.113.9", True),
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["10.0.0.0/8"], "fd00::1", False),
        (["10.0.0.1", "fd00::/8"], "fd00::1", True),
        (["10.0.0.1", "fd00::/8"], "10.0.0.1", True),
        (["10.0.0.1"], "10.0.0.2", False),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_address_is_allowed_if_a_network_contains_it(
    networks: list[str], host: str, allowed: bool
) -> None:
    assert Allowlist(networks).allows(host) is allowed


@pytest.mark.parametrize("text", ["10.0.0.1/8", "lan", "10.0.0.0/33", ""])
def test_invalid_network_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--allow: .*such as 10"):
        Allowlist([text])


def test_peer_that_is_not_allowed_is_closed_before_hello(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        running(host="127.0.0.1", allow=["127.0.0.2"]) as endpoint,
        pytest.raises(ConnectionLost),
    ):
        connect(endpoint, timeout=20)
    assert "refused: --allow does not include its address" in caplog.text
    with running(host="127.0.0.1", allow=["127.0.0.0/8"]) as endpoint:
        connect(endpoint, timeout=20).close()
