from __future__ import annotations

import json
import logging
import resource
from pathlib import Path

import pytest

from ggrpc.engine.server import negotiation
from ggrpc.engine.server.negotiation import (
    FALLBACK_ORDER,
    MAX_HOSTS,
    AdaptiveNegotiator,
    FixedNegotiator,
    state_file,
)
from ggrpc.engine.wire.dialects import (
    DEFAULTS,
    DIALECTS,
    V2_0_0,
    V3_6_1,
    V4_0_3,
    V5_0_0,
    V7_0_0,
    V8_0_0,
    Dialect,
)
from ggrpc.errors import RemoteProtocolError

HOST = "10.0.0.5"


def accepts(client: Dialect, offered: Dialect) -> bool:
    """The rule of llama.cpp's client."""
    mine, theirs = client.version, offered.version
    return mine.major == theirs.major and mine.minor >= theirs.minor


def tries(negotiator: AdaptiveNegotiator, client: Dialect) -> int:
    """How often a client has to connect until it accepts an offer."""
    for count in range(1, 10):
        offered = negotiator.offer(HOST, client.hello_size)
        if accepts(client, offered):
            negotiator.accepted(HOST, offered)
            return count
        negotiator.rejected(HOST, offered)
    raise AssertionError("it accepts no offer")


def test_newest_of_each_kind_is_offered_first() -> None:
    negotiator = AdaptiveNegotiator()
    assert [negotiator.offer(HOST, d.hello_size) for d in DEFAULTS] == list(DEFAULTS)


@pytest.mark.parametrize("client", DIALECTS, ids=lambda d: str(d.version))
def test_every_version_is_detected_and_remembered(
    client: Dialect, tmp_path: Path
) -> None:
    state = tmp_path / "ggrpc" / "clients.json"
    negotiator = AdaptiveNegotiator(state)
    assert tries(negotiator, client) <= 5
    assert tries(negotiator, client) == 1
    assert tries(AdaptiveNegotiator(state), client) == 1


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
    for client in (V2_0_0, V3_6_1, V4_0_3, V5_0_0, V7_0_0, V8_0_0):
        assert tries(AdaptiveNegotiator(), client) <= 4


def test_two_versions_on_one_host_take_turns() -> None:
    negotiator = AdaptiveNegotiator()
    for client in (V5_0_0, V7_0_0):
        tries(negotiator, client)
    for client in (V5_0_0, V7_0_0, V5_0_0):
        assert tries(negotiator, client) <= 2


def test_host_that_rejects_all_is_offered_all_again() -> None:
    negotiator = AdaptiveNegotiator()
    for _ in range(2):
        for dialect in FALLBACK_ORDER:
            if dialect.hello_size:
                assert negotiator.offer(HOST, 24) is dialect
                negotiator.rejected(HOST, dialect)


def test_unused_connections_shortly_after_a_session_are_no_rejection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(negotiation.time, "monotonic", lambda: now)
    negotiator = AdaptiveNegotiator()
    negotiator.accepted(HOST, V8_0_0)
    negotiator.ended(HOST, V8_0_0)
    for _ in range(8):
        negotiator.left(HOST, V8_0_0)
        assert negotiator.offer(HOST, 24) is V8_0_0
    now += negotiation.RECENT_SECONDS
    negotiator.left(HOST, V8_0_0)
    assert negotiator.offer(HOST, 24) is V7_0_0


def test_second_unused_connection_beside_a_session_is_a_rejection() -> None:
    negotiator = AdaptiveNegotiator()
    negotiator.accepted(HOST, V8_0_0)
    negotiator.left(HOST, V8_0_0)
    assert negotiator.offer(HOST, 24) is V8_0_0
    negotiator.accepted(HOST, V8_0_0)
    negotiator.left(HOST, V8_0_0)
    assert negotiator.offer(HOST, 24) is V8_0_0
    negotiator.left(HOST, V8_0_0)
    assert negotiator.offer(HOST, 24) is V7_0_0


def test_unused_connection_of_another_host_is_a_rejection() -> None:
    negotiator = AdaptiveNegotiator()
    negotiator.accepted("10.0.0.6", V8_0_0)
    negotiator.left(HOST, V8_0_0)
    assert negotiator.offer(HOST, 24) is V7_0_0
    assert negotiator.offer("10.0.0.6", 24) is V8_0_0


def test_ended_sessions_of_many_hosts_are_bounded() -> None:
    negotiator = AdaptiveNegotiator()
    for i in range(MAX_HOSTS + 5):
        negotiator.accepted(f"host{i}", V8_0_0)
        negotiator.ended(f"host{i}", V8_0_0)
    assert not negotiator._open
    assert len(negotiator._ended) == MAX_HOSTS


def test_rejection_does_not_affect_other_hosts() -> None:
    negotiator = AdaptiveNegotiator()
    negotiator.rejected(HOST, V8_0_0)
    assert negotiator.offer("10.0.0.6", 24) is V8_0_0
    assert negotiator.offer(HOST, 0) is V3_6_1


def test_negotiation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    negotiator = AdaptiveNegotiator()
    with caplog.at_level(logging.INFO):
        negotiator.rejected(HOST, V8_0_0)
        negotiator.accepted(HOST, V5_0_0)
        negotiator.accepted(HOST, V5_0_0)
    assert caplog.messages == [
        "10.0.0.5 rejected protocol 8.0.0: the next offer is 7.0.0",
        "10.0.0.5 accepted protocol 5.0.0: remembered",
    ]


def test_state_of_many_hosts_is_bounded(tmp_path: Path) -> None:
    negotiator = AdaptiveNegotiator()
    for i in range(MAX_HOSTS + 5):
        negotiator.accepted(f"host{i}", V5_0_0)
    assert negotiator.offer("host0", 24) is V8_0_0
    assert negotiator.offer(f"host{MAX_HOSTS}", 24) is V5_0_0


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"clients": {"a": 7}}', '{"clients": []}', "\xff\x00"]
)
def test_broken_state_file_is_a_warning_and_replaced(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "clients.json"
    state.write_text(text)
    negotiator = AdaptiveNegotiator(state)
    assert "cannot be read" in caplog.text
    negotiator.accepted(HOST, V5_0_0)
    assert json.loads(state.read_text()) == {"clients": {HOST: ["5.0.0"]}}


def test_unknown_version_in_the_state_file_is_ignored(tmp_path: Path) -> None:
    state = tmp_path / "clients.json"
    state.write_text(json.dumps({"clients": {HOST: ["9.0.0", "5.0.0"]}}))
    assert AdaptiveNegotiator(state).offer(HOST, 24) is V5_0_0


def test_state_file_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    negotiator = AdaptiveNegotiator(tmp_path / "file" / "clients.json")
    negotiator.accepted(HOST, V5_0_0)
    assert "cannot be written" in caplog.text
    assert negotiator.offer(HOST, 24) is V5_0_0


def test_state_file_follows_xdg(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_file() == tmp_path / "ggrpc" / "clients.json"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_file().parts[-4:] == (".local", "state", "ggrpc", "clients.json")


def test_fixed_offers_are_the_same_for_all_clients() -> None:
    negotiator = FixedNegotiator((V2_0_0, V5_0_0))
    negotiator.rejected(HOST, V5_0_0)
    assert negotiator.offer(HOST, 24) is V5_0_0
    assert negotiator.offer(HOST, 0) is V2_0_0
    for other in (FixedNegotiator((V5_0_0,)), AdaptiveNegotiator()):
        with pytest.raises(RemoteProtocolError, match="HELLO of 3 bytes"):
            other.offer(HOST, 3)


def test_full_disk_leaves_the_old_state_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "clients.json"
    negotiator = AdaptiveNegotiator(state)
    negotiator.accepted("host", V2_0_0)
    before = state.read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # no file may grow
    try:
        negotiator.accepted("host", V5_0_0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "clients.json cannot be written: File too large" in caplog.text
    assert state.read_text() == before
    assert list(tmp_path.iterdir()) == [state]
    assert negotiator.offer("host", 24) is V5_0_0
