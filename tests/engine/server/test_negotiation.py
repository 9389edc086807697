from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggrpc.engine.server import negotiation
from ggrpc.engine.server.client_versions import ClientVersions
from ggrpc.engine.server.negotiation import AdaptiveNegotiator, FixedNegotiator
from ggrpc.engine.wire.dialects import (
    DEFAULTS,
    DIALECTS,
    NEWEST,
    V2_0_0,
    V3_6_1,
    V4_0_3,
    V5_0_0,
    V6_0_0,
    V7_0_0,
    Dialect,
    Version,
)
from ggrpc.errors import RemoteProtocolError

HOST = "10.0.0.5"
QUICK, SLOW = 0.001, 0.5  # seconds from the offer to a hang-up


@pytest.fixture(autouse=True)
def _later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no hang-up count as one right after a connection that worked."""
    monkeypatch.setattr(negotiation, "RECENT_SECONDS", 0)


def accepts(client: Dialect, offered: Dialect) -> bool:
    """The rule of llama.cpp's client."""
    mine, theirs = client.version, offered.version
    return mine.major == theirs.major and mine.minor >= theirs.minor


def tries(
    negotiator: AdaptiveNegotiator,
    client: Dialect,
    stays: bool = False,
    hangs_up_after: float = QUICK,
) -> int:
    """How often a client has to connect until it accepts an offer."""
    for count in range(1, 10):
        offered = negotiator.offer(HOST, client.hello_size)
        if accepts(client, offered):
            negotiator.accepted(HOST, offered)
            if not stays:
                negotiator.ended(HOST, offered)
            return count
        negotiator.rejected(HOST, offered, hangs_up_after)
    raise AssertionError("it accepts no offer")


def test_newest_of_each_kind_is_offered_first() -> None:
    negotiator = AdaptiveNegotiator()
    assert [negotiator.offer(HOST, d.hello_size) for d in DEFAULTS] == list(DEFAULTS)


@pytest.mark.parametrize("client", DIALECTS, ids=lambda d: str(d.version))
def test_every_version_is_detected_and_remembered(
    client: Dialect, tmp_path: Path
) -> None:
    state = tmp_path / "ggrpc" / "clients.json"
    negotiator = AdaptiveNegotiator(ClientVersions(state))
    assert tries(negotiator, client) <= 5
    assert tries(negotiator, client) == 1
    assert tries(AdaptiveNegotiator(ClientVersions(state)), client) == 1


@pytest.mark.parametrize("client", DIALECTS, ids=lambda d: str(d.version))
def test_accepted_version_has_the_layouts_of_the_clients_own(client: Dialect) -> None:
    negotiator = AdaptiveNegotiator()
    tries(negotiator, client)
    offered = negotiator.offer(HOST, client.hello_size)
    same_but = {"use_count"}  # no layout depends on it
    assert offered.optional - same_but - {"compute"} == (
        client.optional - same_but - {"compute"}
    )
    assert offered.silent == client.silent
    assert set(client.op_tables) <= set(offered.op_tables)


def test_versions_in_long_use_take_few_tries() -> None:
    for client in (V2_0_0, V3_6_1, V4_0_3, V5_0_0, V7_0_0, NEWEST):
        assert tries(AdaptiveNegotiator(), client) <= 4


def test_two_versions_on_one_host_take_turns() -> None:
    negotiator = AdaptiveNegotiator()
    for client in (V5_0_0, V7_0_0):
        tries(negotiator, client)
    for client in (V5_0_0, V7_0_0, V5_0_0):
        assert tries(negotiator, client) <= 2


def hang_up(negotiator: AdaptiveNegotiator, size: int = 24) -> Dialect:
    """Connect and disconnect after the reply to HELLO; returns the offer."""
    offered = negotiator.offer(HOST, size)
    negotiator.rejected(HOST, offered, QUICK)
    return offered


def test_what_worked_is_offered_again_after_one_other_try() -> None:
    negotiator = AdaptiveNegotiator()
    tries(negotiator, V5_0_0)
    offered = [hang_up(negotiator) for _ in range(5)]
    assert offered == [V5_0_0, NEWEST, V5_0_0, V7_0_0, V5_0_0]


def test_other_known_version_is_the_first_other_try() -> None:
    negotiator = AdaptiveNegotiator()
    for client in (V7_0_0, V4_0_3):
        tries(negotiator, client)
    assert [hang_up(negotiator) for _ in range(3)] == [V4_0_3, V7_0_0, V4_0_3]


@pytest.mark.parametrize("known", [[], [V7_0_0], [V7_0_0, NEWEST]], ids=len)
def test_address_that_hangs_up_on_everything_changes_nothing_afterwards(
    known: list[Dialect], caplog: pytest.LogCaptureFixture
) -> None:
    negotiator = AdaptiveNegotiator()
    for dialect in known:
        tries(negotiator, dialect)
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            hang_up(negotiator)
    assert sum("a health check, or newer than" in line for line in caplog.messages) == 1
    assert len(caplog.messages) < 12
    offers = {hang_up(negotiator) for _ in range(20)}
    assert offers == set(known or [NEWEST])
    for dialect in known:  # a client that works does not reset what was learned
        assert tries(negotiator, dialect) <= len(known)
    assert {hang_up(negotiator) for _ in range(20)} == offers


def test_hang_up_beside_a_client_at_work_is_ignored() -> None:
    negotiator = AdaptiveNegotiator()
    tries(negotiator, V7_0_0, stays=True)
    assert [hang_up(negotiator) for _ in range(20)] == [V7_0_0] * 20
    assert tries(negotiator, V7_0_0) == 1


def test_refused_client_beside_one_at_work_gets_its_turn() -> None:
    negotiator = AdaptiveNegotiator()
    tries(negotiator, NEWEST, stays=True)
    assert tries(negotiator, V7_0_0, hangs_up_after=SLOW) == 2


@pytest.mark.parametrize("known", [[NEWEST], [V7_0_0, NEWEST]], ids=len)
def test_connection_that_a_client_leaves_unused_is_ignored(
    known: list[Dialect], monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp of 8.0.0 opens such connections between those that it uses."""
    negotiator = AdaptiveNegotiator()
    for dialect in known:
        tries(negotiator, dialect)
    monkeypatch.setattr(negotiation, "RECENT_SECONDS", 60)
    tries(negotiator, NEWEST)
    assert [hang_up(negotiator) for _ in range(3)] == [NEWEST] * 3
    assert tries(negotiator, NEWEST) == 1


def test_quick_client_beside_one_at_work_gets_its_turn_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(negotiation, "RESTART_SECONDS", 0)
    negotiator = AdaptiveNegotiator()
    tries(negotiator, NEWEST, stays=True)
    assert tries(negotiator, V7_0_0) == 3  # the first hang-up is ignored
    assert tries(negotiator, NEWEST) <= 2


def test_hang_ups_of_several_connections_at_once_count_once() -> None:
    negotiator = AdaptiveNegotiator()
    offered = [negotiator.offer(HOST, 24) for _ in range(5)]
    for dialect in offered:
        negotiator.rejected(HOST, dialect, QUICK)
    assert negotiator.offer(HOST, 24) is V7_0_0


def test_hang_ups_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    negotiator = AdaptiveNegotiator()
    hang_up(negotiator)
    assert negotiator.offer(HOST, 24) is V7_0_0
    monkeypatch.setattr(negotiation, "QUIET_SECONDS", 0)
    assert negotiator.offer(HOST, 24) is NEWEST


def test_ggrpcs_own_client_gets_the_newest_that_both_speak() -> None:
    negotiator = AdaptiveNegotiator()
    newer = Version(99, 0, 0)
    assert negotiator.offer_to_ggrpc(newer, V5_0_0) is NEWEST
    assert negotiator.offer_to_ggrpc(V6_0_0.version, NEWEST) is V6_0_0
    assert negotiator.offer_to_ggrpc(V6_0_0.version, V3_6_1) is V3_6_1
    assert FixedNegotiator([V5_0_0]).offer_to_ggrpc(newer, V5_0_0) is V5_0_0


VERSIONS = st.sampled_from((NEWEST, V7_0_0, V3_6_1, V2_0_0))


@given(st.lists(VERSIONS, max_size=30))
def test_clients_of_one_address_are_refused_once_at_most(
    clients: list[Dialect],
) -> None:
    """There are two clients for each size of HELLO, and all have connected before."""
    negotiator = AdaptiveNegotiator()
    for client in (NEWEST, V7_0_0, V3_6_1, V2_0_0, *clients):
        assert tries(negotiator, client) <= 2


def test_rejection_does_not_affect_other_hosts() -> None:
    negotiator = AdaptiveNegotiator()
    negotiator.rejected(HOST, NEWEST, QUICK)
    assert negotiator.offer("10.0.0.6", 24) is NEWEST
    assert negotiator.offer(HOST, 0) is V3_6_1


def test_negotiation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    negotiator = AdaptiveNegotiator()
    with caplog.at_level(logging.INFO):
        negotiator.rejected(HOST, NEWEST, QUICK)
        negotiator.accepted(HOST, V5_0_0)
        negotiator.accepted(HOST, V5_0_0)
    assert caplog.messages == [
        "10.0.0.5 hung up on protocol 8.0.0: the next offer is 7.0.0",
        "10.0.0.5 accepted protocol 5.0.0: remembered",
    ]


def test_fixed_offers_are_the_same_for_all_clients() -> None:
    negotiator = FixedNegotiator((V2_0_0, V5_0_0))
    negotiator.rejected(HOST, V5_0_0, QUICK)
    assert negotiator.offer(HOST, 24) is V5_0_0
    assert negotiator.offer(HOST, 0) is V2_0_0
    for other in (FixedNegotiator((V5_0_0,)), AdaptiveNegotiator()):
        with pytest.raises(RemoteProtocolError, match="HELLO of 3 bytes"):
            other.offer(HOST, 3)
