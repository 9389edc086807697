from __future__ import annotations

import ssl
from typing import Any

import pytest

from ggrpc.engine.server.allowlist import Allowlist
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.wire import messages as m
from ggrpc.errors import RefusedError

LAN = Allowlist(["10.0.0.0/8", "fd00::/8"])
RACK = Allowlist(["10.1.0.0/16"])
SELF = Allowlist(["127.0.0.1", "10.1.0.0/16"])
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def request(**changes: Any) -> m.CommInit:
    fields = {"device": 0, "rank": 0, "world": 2, "port": 51052, "host": b"10.0.0.9"}
    return m.CommInit(**{**fields, **changes})


@pytest.mark.parametrize(
    ("settings", "changes", "client", "message"),
    [
        (CommSettings(enabled=False), {}, "127.0.0.1", "--no-comm"),
        (CommSettings(), {"world": 3}, "127.0.0.1", "rank 0 of 3"),
        (CommSettings(), {"world": 0}, "127.0.0.1", "rank 0 of 0"),
        (CommSettings(), {"rank": 2}, "127.0.0.1", "rank 2 of 2"),
        (CommSettings(), {"rank": 1 << 31}, "127.0.0.1", "links two"),
        (CommSettings(), {"port": 0}, "127.0.0.1", "port 0 is not"),
        (CommSettings(), {"port": 1023}, "127.0.0.1", "port 1023"),
        (CommSettings(), {"port": 65536}, "127.0.0.1", "port 65536"),
        (CommSettings(server_tls=TLS), {}, "127.0.0.1", "--tls-client-ca"),
        (CommSettings(server_tls=TLS), {"rank": 1}, "127.0.0.1", "--tls-client-ca"),
        (CommSettings(), {"rank": 1}, "10.0.0.5", "--comm-peers"),
    ],
    ids=lambda value: "" if isinstance(value, CommSettings) else str(value),
)
def test_request_is_refused_before_anything_is_opened(
    settings: CommSettings, changes: dict[str, Any], client: str, message: str
) -> None:
    with pytest.raises(RefusedError, match=message):
        settings.check(request(**changes), client)


@pytest.mark.parametrize(
    ("settings", "rank", "client"),
    [
        (CommSettings(), 0, "10.0.0.5"),
        (CommSettings(), 1, "127.0.0.1"),
        (CommSettings(allowlist=LAN), 1, "10.0.0.5"),
        (CommSettings(peers=RACK), 1, "10.0.0.5"),
        (CommSettings(server_tls=TLS, client_tls=TLS), 0, "10.0.0.5"),
    ],
)
def test_request_is_granted(settings: CommSettings, rank: int, client: str) -> None:
    settings.check(request(rank=rank), client)


@pytest.mark.parametrize(
    ("settings", "host", "admitted"),
    [
        (CommSettings(), "192.0.2.1", True),
        (CommSettings(allowlist=LAN), "192.0.2.1", False),
        (CommSettings(allowlist=LAN), "10.0.0.9", True),
        (CommSettings(allowlist=LAN), "::ffff:10.0.0.9", True),
        (CommSettings(allowlist=LAN), "fd00::7%eth0", True),
        (CommSettings(allowlist=LAN), "127.0.0.1", False),
        (CommSettings(allowlist=RACK, peers=LAN), "10.2.0.1", True),
        (CommSettings(allowlist=RACK, peers=LAN), "192.0.2.1", False),
    ],
)
def test_rank_0_admits_what_the_lists_name(
    settings: CommSettings, host: str, admitted: bool
) -> None:
    assert settings.admits(host) is admitted


@pytest.mark.parametrize(
    ("settings", "host", "client", "allowed"),
    [
        (CommSettings(), "127.0.0.1", "127.0.0.1", True),
        (CommSettings(), "::1", "127.0.0.5", True),
        (CommSettings(), "::ffff:127.0.0.1", "::1", True),
        (CommSettings(), "10.0.0.9", "127.0.0.1", False),
        (CommSettings(), "127.0.0.1", "10.0.0.5", False),
        (CommSettings(), "0.0.0.0", "127.0.0.1", False),
        (CommSettings(allowlist=LAN), "10.0.0.9", "10.0.0.5", True),
        (CommSettings(allowlist=LAN), "::ffff:10.0.0.9", "10.0.0.5", True),
        (CommSettings(allowlist=LAN), "192.0.2.1", "10.0.0.5", False),
        (CommSettings(allowlist=LAN), "192.0.2.1", "127.0.0.1", False),
        (CommSettings(allowlist=SELF), "127.0.0.1", "10.1.0.5", False),
        (CommSettings(allowlist=LAN, peers=RACK), "10.1.0.9", "10.0.0.5", True),
        (CommSettings(allowlist=LAN, peers=RACK), "10.2.0.9", "10.0.0.5", False),
        (CommSettings(peers=RACK), "127.0.0.1", "127.0.0.1", True),
        (CommSettings(peers=SELF), "127.0.0.1", "10.1.0.5", True),
    ],
)
def test_rank_1_connects_to_what_the_lists_name(
    settings: CommSettings, host: str, client: str, allowed: bool
) -> None:
    assert settings.may_connect(host, client) is allowed
