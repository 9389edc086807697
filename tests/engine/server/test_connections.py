from __future__ import annotations

import pytest

from ggrpc.engine.server.connections import network_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::1", "::1", True),
        ("::1", "::2", False),
    ],
)
def test_addresses_of_one_network_count_together(
    one: str, other: str, same: bool
) -> None:
    assert (network_of(one) == network_of(other)) is same
