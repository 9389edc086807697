from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Event

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net import rendezvous
from ggrpc.engine.net.deadline import Deadline
from ggrpc.engine.net.rendezvous import await_peer, meet_peer
from ggrpc.engine.net.tls import client_context, server_context
from ggrpc.engine.net.transport import Stream, listen
from ggrpc.errors import (
    BindError,
    Cancelled,
    ConnectError,
    RefusedError,
    TransportTimeout,
)
from tests.support.certificates import Certificates, make_certificates
from tests.support.processes import free_port
from tests.support.waiting import wait_until

SHORT = 0.3  # seconds


def everyone(host: str) -> bool:
    return True


def within(seconds: float = 20) -> Deadline:
    return Deadline(seconds, None)


@pytest.fixture
def here() -> Endpoint:
    return Endpoint("127.0.0.1", free_port())


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def opened_from(source: str, endpoint: Endpoint) -> socket.socket:
    """A connection from a loopback address, as soon as the port is open."""
    found: list[socket.socket] = []

    def connects() -> bool:
        try:
            found.append(socket.create_connection(endpoint, 5, (source, 0)))
        except ConnectionRefusedError:
            return False
        return True

    wait_until(connects)
    return found[0]


def assert_talk(one: Stream, other: Stream) -> None:
    with closing(one), closing(other):
        for sender, receiver in ((one, other), (other, one)):
            sender.send([b"hello"], within())
            view = memoryview(bytearray(5))
            receiver.receive_exactly(view, within())
            assert view == b"hello"


@pytest.mark.parametrize("first", ["listener", "dialler"])
def test_two_servers_meet_in_either_order(
    here: Endpoint, threads: ThreadPoolExecutor, first: str
) -> None:
    calls: list[Callable[[], Stream]] = [
        lambda: await_peer(here, everyone, within()),
        lambda: meet_peer(here, everyone, within()),
    ]
    if first == "dialler":
        calls.reverse()
    early: Future[Stream] = threads.submit(calls[0])
    time.sleep(0.1)
    assert_talk(calls[1](), early.result(20))
    listen(here)[0].close()  # the port is free again


def test_listener_turns_others_away_and_waits_on(
    here: Endpoint, threads: ThreadPoolExecutor
) -> None:
    seen: list[str] = []

    def admits(host: str) -> bool:
        seen.append(host)
        return host == "127.0.0.3"

    waiting = threads.submit(await_peer, here, admits, within())
    with opened_from("127.0.0.2", here) as stranger:
        assert stranger.recv(1) == b""
    with opened_from("127.0.0.3", here), closing(waiting.result(20)) as stream:
        assert stream.endpoint.host == "127.0.0.3"
    assert seen == ["127.0.0.2", "127.0.0.3"]


def test_listener_takes_one_connection(
    here: Endpoint, threads: ThreadPoolExecutor
) -> None:
    waiting = threads.submit(await_peer, here, everyone, within())
    with (
        opened_from("127.0.0.1", here),
        closing(waiting.result(20)),
        pytest.raises(ConnectionRefusedError),
    ):
        socket.create_connection(here, 5)


def test_listener_gives_up_and_says_why(here: Endpoint) -> None:
    with pytest.raises(TransportTimeout, match=rf"{here} within 0.3 s; .* firewall"):
        await_peer(here, everyone, within(SHORT))
    listen(here)[0].close()


def test_address_that_was_turned_away_is_named(
    here: Endpoint, threads: ThreadPoolExecutor
) -> None:
    waiting = threads.submit(await_peer, here, lambda host: False, within(1))
    opened_from("127.0.0.2", here).close()
    with pytest.raises(
        TransportTimeout, match=r"--comm-peers can allow 127\.0\.0\.2, "
    ):
        waiting.result(20)


def test_port_in_use_is_an_error_with_advice(here: Endpoint) -> None:
    (taken,) = listen(here)
    with closing(taken), pytest.raises(BindError, match=r"in use; free that port"):
        await_peer(here, everyone, within())


def test_dialler_gives_up_and_says_why(here: Endpoint) -> None:
    with pytest.raises(TransportTimeout, match=rf"0.3 s: cannot .*{here}: Connection"):
        meet_peer(here, everyone, within(SHORT))


def test_dialler_gives_up_on_an_address_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendezvous, "DIAL_SECONDS", 0.1)
    with socket.socket() as full:  # its backlog is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        endpoint = Endpoint(*full.getsockname())
        with socket.create_connection(endpoint), pytest.raises(TransportTimeout):
            meet_peer(endpoint, everyone, within(SHORT))


def test_dialler_connects_only_to_admitted_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint("localhost", server.getsockname()[1])
        with pytest.raises(RefusedError, match=r"localhost:\d+; .*--comm-peers"):
            meet_peer(endpoint, lambda host: False, within())
        server.settimeout(SHORT)
        with pytest.raises(TimeoutError):
            server.accept()


def test_dialler_tries_every_address_of_a_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        endpoint = Endpoint("node1", server.getsockname()[1])
        found = [endpoint._replace(host=host) for host in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(rendezvous, "addresses_of", lambda *_: found)
        stream = meet_peer(endpoint, everyone, within())
        with closing(stream), server.accept()[0]:
            assert stream.endpoint == endpoint


@pytest.mark.parametrize(
    "host", ["", "x" * 64, "a..b", "\\xff", "host.invalid", "-", "1.2.3.4.5", "%"]
)
def test_host_that_is_none_is_an_error(host: str) -> None:
    with pytest.raises(ConnectError, match="cannot find"):
        meet_peer(Endpoint(host, 2000), everyone, within(5))


def test_connection_with_itself_is_recognised(here: Endpoint) -> None:
    with socket.socket() as sock:
        sock.bind(here)
        sock.connect(here)
        assert rendezvous._is_self_connected(sock)
    with socket.socket() as unconnected:
        assert not rendezvous._is_self_connected(unconnected)


@pytest.mark.parametrize("call", [await_peer, meet_peer])
def test_stop_ends_the_wait(
    here: Endpoint, threads: ThreadPoolExecutor, call: Callable[..., Stream]
) -> None:
    stop = Event()
    waiting = threads.submit(call, here, everyone, within(60), None, stop)
    time.sleep(0.1)
    stop.set()
    with pytest.raises(Cancelled, match="stops"):
        waiting.result(5)


def tls_pair(
    files: Certificates,
    here: Endpoint,
    threads: ThreadPoolExecutor,
    certificate: str | None,
    seconds: float = 20,
) -> tuple[Future[Stream], Future[Stream]]:
    """Two servers that meet over TLS, the second with a certificate."""
    listener = server_context(files.server, None, files.ca)
    dialler = client_context(files.ca, certificate)
    return (
        threads.submit(await_peer, here, everyone, within(seconds), listener),
        threads.submit(meet_peer, here, everyone, within(seconds), dialler),
    )


def test_two_servers_meet_over_tls(
    files: Certificates, here: Endpoint, threads: ThreadPoolExecutor
) -> None:
    one, other = tls_pair(files, here, threads, files.server)
    assert_talk(one.result(20), other.result(20))


def test_server_without_a_certificate_is_refused(
    files: Certificates, here: Endpoint, threads: ThreadPoolExecutor
) -> None:
    one, other = tls_pair(files, here, threads, None)
    with pytest.raises(ConnectError, match="the client has no certificate"):
        one.result(20)
    required = pytest.raises(ConnectError, match="requires a client certificate")
    with closing(other.result(20)) as stream, required:
        stream.receive_exactly(memoryview(bytearray(1)), within())


def test_certificate_of_another_host_is_refused(
    files: Certificates, threads: ThreadPoolExecutor
) -> None:
    other_host = Endpoint("127.0.0.2", free_port())
    one, other = tls_pair(files, other_host, threads, files.server)
    with pytest.raises(ConnectError, match=r"not for 127\.0\.0\.2, but for"):
        other.result(20)
    with pytest.raises(ConnectError, match="rejects the server's certificate"):
        one.result(20)


@pytest.mark.parametrize("listens", [True, False], ids=["listener", "dialler"])
def test_peer_that_is_silent_in_the_handshake_is_given_up(
    files: Certificates, here: Endpoint, threads: ThreadPoolExecutor, listens: bool
) -> None:
    if listens:
        context = server_context(files.server, None, files.ca)
        waiting = threads.submit(await_peer, here, everyone, within(1), context)
        with opened_from("127.0.0.1", here), pytest.raises(TransportTimeout):
            waiting.result(20)
        return
    with socket.create_server(here), pytest.raises(TransportTimeout):
        meet_peer(here, everyone, within(1), client_context(files.ca))


def test_peer_without_tls_is_refused(
    files: Certificates, here: Endpoint, threads: ThreadPoolExecutor
) -> None:
    context = server_context(files.server, None, files.ca)
    waiting = threads.submit(await_peer, here, everyone, within(), context)
    with opened_from("127.0.0.1", here) as plain:
        plain.sendall(bytes(24))
        with pytest.raises(ConnectError, match="the client speaks without TLS"):
            waiting.result(20)
