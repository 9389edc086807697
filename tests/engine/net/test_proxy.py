"""The log lines of a proxy about the server that it forwards to."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.proxy import Proxy
from ggrpc.engine.net.transport import Stream
from tests.support.background import in_background
from tests.support.clients import reset
from tests.support.processes import free_port
from tests.support.waiting import wait_until

LOCAL = Endpoint("127.0.0.1", 0)


@contextmanager
def proxy_to(server: Endpoint) -> Iterator[Endpoint]:
    proxy = Proxy(LOCAL, server, lambda: Stream.connect(server))
    with in_background(proxy) as endpoint:
        yield endpoint


@contextmanager
def listening() -> Iterator[tuple[socket.socket, Endpoint]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener, Endpoint(*listener.getsockname())


@contextmanager
def connected(
    listener: socket.socket, proxy: Endpoint
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's socket, and the server's for the same connection."""
    with socket.create_connection(proxy, 20) as client:
        client.sendall(b"x")
        while True:
            server, _ = listener.accept()
            with server:
                if server.recv(1):  # not the proxy's own check of the server
                    yield client, server
                    return


def test_server_is_looked_at_from_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listening() as (listener, server), proxy_to(server):
        wait_until(lambda: f"{server} can be reached" in caplog.text)
        looking, _ = listener.accept()
        with looking:
            assert looking.recv(1) == b""  # nothing was sent to it, and no reset


def test_server_that_is_not_there_is_a_warning_and_may_come(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Endpoint("127.0.0.1", free_port())
    with proxy_to(server) as proxy:
        wait_until(lambda: "connections fail until it can be reached" in caplog.text)
        assert f"cannot connect to {server}" in caplog.text
        with socket.create_server(server) as listener:
            listener.settimeout(20)
            with connected(listener, proxy):
                pass


def close(sock: socket.socket) -> None:
    sock.close()


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("first", ["server", "client"])
def test_only_a_server_that_ends_a_connection_is_logged(
    caplog: pytest.LogCaptureFixture,
    first: str,
    end,  # type: ignore[no-untyped-def]
) -> None:
    caplog.set_level(logging.INFO)
    with (
        listening() as (listener, endpoint),
        proxy_to(endpoint) as proxy,
        connected(listener, proxy) as (client, server),
    ):
        name = "{}:{}".format(*client.getsockname())
        end(server if first == "server" else client)
        other = client if first == "server" else server
        try:
            assert other.recv(1) == b""
        except ConnectionError:
            assert end is reset
        logged = f"{endpoint} closed the connection of {name}: it died"
        if first == "server":  # at once: the client is still connected
            wait_until(lambda: logged in caplog.text)
    assert (logged in caplog.text) == (first == "server")


def test_proxy_that_stops_does_not_blame_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with listening() as (listener, endpoint):
        proxying = proxy_to(endpoint)
        with connected(listener, proxying.__enter__()):
            proxying.__exit__(None, None, None)
    assert "closed the connection" not in caplog.text


def test_proxy_that_stops_resets_the_server() -> None:
    """It may owe an answer, and llama.cpp's dies if it answers to a closed stream."""
    with listening() as (listener, endpoint):
        proxying = proxy_to(endpoint)
        with connected(listener, proxying.__enter__()) as (_, server):
            proxying.__exit__(None, None, None)
            with pytest.raises(ConnectionResetError):
                server.recv(1)


def test_proxy_stops_while_it_connects() -> None:
    """A TLS server that never shakes hands does not hold it up."""
    with listening() as (_, endpoint):
        connecting, given_up = threading.Event(), threading.Event()

        def connect() -> Stream:
            connecting.set()
            assert given_up.wait(60)
            return Stream.connect(endpoint)

        proxy = Proxy(LOCAL, endpoint, connect)
        with in_background(proxy) as near, socket.create_connection(near):
            assert connecting.wait(20)
            wait_until(lambda: proxy.connections)
        given_up.set()
        wait_until(lambda: not proxy.connections)
