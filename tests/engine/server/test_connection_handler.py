from __future__ import annotations

import itertools

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.server.connection_handler import ConnectionHandler, Phase
from ggrpc.engine.server.negotiation import FixedNegotiator
from ggrpc.engine.server.quotas import ServerQuota
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.connection import ClientConnection
from ggrpc.engine.wire.dialects import V7_0_0, Dialect
from tests.support.tape import PEER, Tape


class Witness(FixedNegotiator):
    """A negotiator that lists what it learns."""

    def __init__(self) -> None:
        super().__init__([V7_0_0])
        self.events: list[tuple[str, str]] = []

    def accepted(self, host: str, dialect: Dialect) -> None:
        self.events.append(("accepted", host))

    def ended(self, host: str, dialect: Dialect) -> None:
        self.events.append(("ended", host))

    def rejected(self, host: str, dialect: Dialect) -> None:
        self.events.append(("rejected", host))


def requests(*requests: m.Request) -> bytes:
    client = ClientConnection(V7_0_0)
    return b"".join(piece for r in requests for piece in client.request(r))


HELLO = requests(m.Hello(caps=bytes(24)))
COUNT = requests(m.DeviceCount())


def served(received: bytes, was_shut: bool = False) -> tuple[Witness, Tape]:
    """Serve a client that sends some bytes and closes."""
    negotiator, tape = Witness(), Tape(received, was_shut)
    device = CpuDevice(threads=1, weight_cache=0)
    settings = ServerSettings(PEER, [device], negotiator)
    quota = ServerQuota(settings.limits, settings.devices).new_client()
    handler = ConnectionHandler(tape, settings, quota)  # type: ignore[arg-type]
    assert handler.phase is Phase.CONNECTED
    handler.run()
    assert handler.phase is Phase.ENDED
    return negotiator, tape


def test_client_that_closes_after_hello_has_rejected_the_version() -> None:
    negotiator, tape = served(HELLO)
    assert negotiator.events == [("rejected", PEER.host)]
    assert len(tape.sent) == 8 + 28


def test_second_request_accepts_the_version_once() -> None:
    negotiator, tape = served(HELLO + COUNT * 3)
    assert negotiator.events == [("accepted", PEER.host), ("ended", PEER.host)]
    assert len(tape.sent) == 8 + 28 + 3 * (8 + 4)


@pytest.mark.parametrize("received", [b"", HELLO[:5], HELLO + COUNT[:1]], ids=len)
def test_incomplete_request_says_nothing_about_the_version(received: bytes) -> None:
    negotiator, _ = served(received)
    assert negotiator.events == []


def test_connection_that_the_server_ends_is_not_a_rejection() -> None:
    negotiator, _ = served(HELLO, was_shut=True)
    assert negotiator.events == []


def test_phases_only_go_forward() -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    settings = ServerSettings(PEER, [device], Witness())
    quota = ServerQuota(settings.limits, settings.devices).new_client()
    allowed = set()
    for before, after in itertools.product(Phase, Phase):
        handler = ConnectionHandler(Tape(b""), settings, quota)  # type: ignore[arg-type]
        handler.phase = before
        try:
            handler._enter(after)
        except AssertionError:
            continue
        allowed.add((before, after))
    assert allowed == {
        (Phase.CONNECTED, Phase.GREETED),
        (Phase.GREETED, Phase.SERVING),
        *((phase, Phase.ENDED) for phase in Phase),
    }
