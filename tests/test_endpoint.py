from __future__ import annotations

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "endpoint", "shown"),
    [
        ("localhost:80", Endpoint("localhost", 80), "localhost:80"),
        ("node1", Endpoint("node1", 50052), "node1:50052"),
        ("[::1]:7", Endpoint("::1", 7), "[::1]:7"),
        ("[fe80::2%eth0]", Endpoint("fe80::2%eth0"), "[fe80::2%eth0]:50052"),
        ("::1", Endpoint("::1"), "[::1]:50052"),
        ("10.0.0.1:65535", Endpoint("10.0.0.1", 65535), "10.0.0.1:65535"),
    ],
)
def test_endpoint_is_parsed_and_formatted(
    text: str, endpoint: Endpoint, shown: str
) -> None:
    assert Endpoint.parse(text) == endpoint
    assert str(endpoint) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "a/b",
        "a b",
        "n[1-x]",
        "[::1",
        "[::1]x",
        "a..b",
    ],
)
def test_invalid_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid endpoint"):
        Endpoint.parse(text)
