from __future__ import annotations

import socket
import time
from threading import Event
from typing import Any

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net import resolve
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.resolve import addresses_of
from ggrpc.engine.net.transport import dial
from ggrpc.errors import ConnectError, TransportTimeout

asked = socket.getaddrinfo


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%1"])
def test_address_needs_no_resolver(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_resolved", None)
    assert addresses_of(Endpoint(host, 7), Deadline(0)) == [Endpoint(host, 7)]


def test_name_has_the_addresses_of_the_resolver() -> None:
    assert Endpoint("127.0.0.1", 7) in addresses_of(
        Endpoint("localhost", 7), Deadline(20)
    )


@pytest.mark.parametrize("host", ["host.invalid", "", "a..b", "x" * 64])
def test_name_without_an_address_is_an_error(host: str) -> None:
    with pytest.raises(ConnectError, match=r"cannot find .*; is the name right"):
        addresses_of(Endpoint(host, 7), Deadline(20))


@pytest.mark.parametrize("find", [addresses_of, dial])
def test_resolver_that_hangs_is_given_up(
    find: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Event()

    def hang(*where: Any, flags: int = 0, **kind: Any) -> Any:
        if not flags:
            release.wait()
        return asked(*where, flags=flags, **kind)

    monkeypatch.setattr("socket.getaddrinfo", hang)
    start = time.monotonic()
    with pytest.raises(TransportTimeout, match=r"within 0\.2 s; check DNS"):
        find(Endpoint("node1", 2000), Deadline(0.2))
    assert time.monotonic() - start < 5
    release.set()


def test_addresses_of_a_name_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there, FullQueue() as busy:
        port = there.getsockname()[1]
        found = [Endpoint("127.0.0.1", busy), Endpoint("127.0.0.1", port)]
        monkeypatch.setattr(
            "ggrpc.engine.net.transport.addresses_of", lambda *_: list(found)
        )
        with dial(Endpoint("node1", port), Deadline(2)) as sock:
            assert sock.getpeername()[1] == port
        found.pop()
        with pytest.raises(
            TransportTimeout, match=r"cannot connect to node1:\d+ within"
        ):
            dial(Endpoint("node1", port), Deadline(0.3))


class FullQueue:
    """A port whose queue of connections is full, like that of a busy server."""

    def __enter__(self) -> int:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._waiting = [socket.socket() for _ in range(3)]
        for sock in self._waiting:
            sock.setblocking(False)
            sock.connect_ex(self._listener.getsockname())
        time.sleep(0.05)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *error: object) -> None:
        for sock in (*self._waiting, self._listener):
            sock.close()
