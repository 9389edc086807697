"""Clients of forks connect to a server, which names the fork in one log line."""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Callable

import pytest

from ggrpc.engine.client.client import connect
from ggrpc.engine.server.negotiation import FALLBACK_ORDER, AdaptiveNegotiator
from ggrpc.engine.wire.dialects import NEWEST, V3_6_1, V5_0_0, V8_0_0
from tests.support.clients import byte_vector, closed_within, serves
from tests.support.fork_clients import (
    CLIENTS,
    REQUESTS,
    ForkClient,
    allocate,
    set_tensor,
)
from tests.support.servers import running
from tests.support.waiting import wait_until


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: str(c.size))
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: r.__name__)
def test_client_of_a_fork_is_named(
    client: ForkClient,
    request_: Callable[[ForkClient, int], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(negotiator=AdaptiveNegotiator()) as endpoint:
        with client.greet(endpoint) as sock:
            buffer = allocate(sock)
            sock.sendall(request_(client, buffer))
            assert closed_within(sock, 20)
        assert serves(endpoint)
    (line,) = warnings(caplog)
    assert request_.__name__.upper() in line
    if client.wide and request_ is set_tensor:
        # Its fields are at other offsets, so only the version shows which fork it is.
        ending = "(a client of ik_llama.cpp? ggrpc does not serve that fork)"
    else:
        ending = "the connection is closed"
        tensor = f"a tensor has {client.size} bytes, so the client is {client.fork}, "
        assert tensor in line
    assert line.endswith(ending)


@pytest.mark.parametrize("size", [304, 312, 344, 360, 376, 392])
@pytest.mark.parametrize("dialect", [V3_6_1, V8_0_0], ids=lambda d: str(d.version))
def test_size_that_a_fork_of_another_kind_has_is_no_fork(size, dialect, caplog) -> None:  # type: ignore[no-untyped-def]
    """A size of tensor means a fork only for clients of a version that the fork has."""
    kinds = {312: 0, 344: 0, 376: 0, 360: 24, 392: 24}
    hello = dialect.hello_size
    with (
        running(dialects=(dialect,)) as endpoint,
        socket.create_connection(endpoint, 20) as sock,
    ):
        sock.sendall(struct.pack("<BQ", 14, hello) + bytes(hello))
        sock.sendall(struct.pack("<BQ", 12, size) + bytes(size))
        sock.recv(100)
        assert closed_within(sock, 20)
    (line,) = warnings(caplog)
    assert ("so the client is" in line) == (kinds.get(size) == hello)


def test_data_that_fits_its_tensor_is_never_a_forks(caplog) -> None:  # type: ignore[no-untyped-def]
    with (
        running(dialects=(V5_0_0,)) as endpoint,
        connect(endpoint, timeout=20) as client,
    ):
        tensor = byte_vector(client, 200)
        for size in (104, 136, 200):
            client.set_tensor(tensor, bytes(size))
        client.memory()
    assert warnings(caplog) == []


def hangs_up(endpoint: tuple[str, int], hello: int) -> tuple[int, ...]:
    """Send HELLO, disconnect after the reply, and return its version."""
    with socket.create_connection(endpoint, 20) as sock:
        sock.sendall(struct.pack("<BQ", 14, hello) + bytes(hello))
        return tuple(sock.recv(100)[8:11])


@pytest.mark.parametrize(
    ("hello", "ending"),
    [
        (
            24,
            f"; a health check, or newer than {NEWEST.version}? Install a newer "
            f"ggrpc here or a llama.cpp of protocol {NEWEST.version} there; clients of "
            "qvac-fabric and llama-halo-hybrid need their own server; from now on it "
            f"is offered {NEWEST.version}",
        ),
        (
            0,
            "; a health check, or a client of llama-box? It needs its own server; "
            "from now on it is offered 3.6.1",
        ),
    ],
)
def test_client_that_hangs_up_on_every_version_is_one_line(  # type: ignore[no-untyped-def]
    hello: int, ending: str, caplog
) -> None:
    offers = [d for d in FALLBACK_ORDER if d.hello_size == hello]
    caplog.set_level(logging.INFO)
    with running(negotiator=AdaptiveNegotiator()) as endpoint:
        for count, offer in enumerate(offers, 1):
            assert hangs_up(endpoint, hello) == offer.version
            wait_until(lambda count=count: len(caplog.messages) == count)
    versions = ", ".join(str(version) for version in sorted(o.version for o in offers))
    rejected = "::1 rejected every protocol version offered: "
    assert warnings(caplog) == [rejected + versions + ending]
