"""Links between servers, used and misused by clients, peers and strangers."""

from __future__ import annotations

import logging
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.net.tls import client_context, server_context
from ggrpc.engine.server import comm, link
from ggrpc.engine.server.allowlist import Allowlist
from ggrpc.engine.server.comm_settings import CommSettings
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.wire import messages as m
from ggrpc.errors import ConnectionLost, GgrpcError
from ggrpc.tensor import Tensor
from ggrpc.types import GGMLType
from tests.support.certificates import make_certificates
from tests.support.clients import serves, vector
from tests.support.processes import free_port
from tests.support.servers import running
from tests.support.waiting import wait_until

HERE = "127.0.0.1"
HURRIED = CommSettings(timeout=0.5)
CAPS = bytes(24)


@contextmanager
def two_servers(
    *settings: CommSettings, limits: Limits | None = None
) -> Iterator[tuple[Endpoint, Endpoint]]:
    one, other = settings if len(settings) == 2 else (*settings, *settings)
    limits = limits or Limits()
    with (
        running(host=HERE, comm=one, limits=limits) as first,
        running(host=HERE, comm=other, limits=limits) as second,
    ):
        yield first, second


@contextmanager
def clients(*endpoints: Endpoint) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connect(e, timeout=20)) for e in endpoints]


def link_up(one: Client, other: Client, host: str = HERE) -> tuple[bool, bool]:
    """Ask both servers for a link, as llama.cpp does."""
    port = free_port()
    with ThreadPoolExecutor() as threads:
        far = threads.submit(other.comm_init, 1, port, host)
        return one.comm_init(0, port), far.result(30)


def got(client: Client, tensor: Tensor) -> np.ndarray:
    array = np.empty(tensor.ne[0], np.float32)
    client.get_tensor(tensor, memoryview(array).cast("B"))
    return array


def put(client: Client, array: np.ndarray) -> Tensor:
    tensor = vector(client, len(array))
    client.set_tensor(tensor, array.tobytes())
    return tensor


def assert_reduces(one: Client, other: Client, count: int = 1000) -> None:
    tensors = [
        put(client, np.full(count, value, np.float32))
        for client, value in ((one, 1), (other, 2))
    ]
    for client, tensor in zip((one, other), tensors, strict=True):
        client.comm_allreduce(tensor)
    for client, tensor in zip((one, other), tensors, strict=True):
        assert (got(client, tensor) == 3).all()


@contextmanager
def with_peer(
    settings: CommSettings, rank: int
) -> Iterator[tuple[Endpoint, Client, socket.socket]]:
    """A client of a server that is linked, as `rank`, with a socket of the test."""
    port = free_port()
    with (
        running(host=HERE, comm=settings) as endpoint,
        connect(endpoint, timeout=20) as client,
        ThreadPoolExecutor() as threads,
    ):
        if rank == 0:
            answer = threads.submit(client.comm_init, 0, port)
            sock = dialled(port)
            sock.sendall(CAPS)
            assert sock.recv(24, socket.MSG_WAITALL) == CAPS
        else:
            with socket.create_server((HERE, port)) as server:
                answer = threads.submit(client.comm_init, 1, port, HERE)
                sock = server.accept()[0]
            assert sock.recv(24, socket.MSG_WAITALL) == CAPS
            sock.sendall(CAPS)
        assert answer.result(20)
        with sock:
            yield endpoint, client, sock


def dialled(port: int) -> socket.socket:
    """A connection with a port, as soon as it is open."""
    found: list[socket.socket] = []

    def opens() -> bool:
        with suppress(ConnectionRefusedError):
            found.append(socket.create_connection((HERE, port), 20))
        return bool(found)

    wait_until(opens)
    return found[0]


def assert_ended(client: Client) -> None:
    with pytest.raises(ConnectionLost):
        client.memory()


@pytest.mark.parametrize("count", [1, 1000, 40_000, 600_000])
def test_two_servers_reduce_between_themselves(count: int) -> None:
    with two_servers(CommSettings()) as endpoints, clients(*endpoints) as both:
        assert link_up(*both) == (True, True)
        for _ in range(3):
            assert_reduces(*both, count)


def test_host_may_be_a_name() -> None:
    with two_servers(CommSettings()) as endpoints, clients(*endpoints) as both:
        assert link_up(*both, host="localhost") == (True, True)
        assert_reduces(*both)


def test_second_init_keeps_the_link_and_free_ends_it() -> None:
    with two_servers(CommSettings()) as endpoints, clients(*endpoints) as both:
        assert link_up(*both) == (True, True)
        for client in both:
            assert client.comm_init(rank=7, port=0, world=9)
        assert_reduces(*both)
        for client in both:
            client.comm_free()
            client.comm_free()
        assert link_up(*both) == (True, True)
        assert_reduces(*both)


def test_each_device_has_a_link_of_its_own() -> None:
    devices = [CpuDevice(threads=1, weight_cache=0) for _ in range(2)]
    with (
        running(*devices, host=HERE) as first,
        running(host=HERE) as second,
        running(host=HERE) as third,
        clients(first, second, third) as (one, two, three),
        ThreadPoolExecutor() as threads,
    ):
        for device, other in enumerate((two, three)):
            port = free_port()
            far = threads.submit(other.comm_init, 1, port, HERE)
            assert one.comm_init(0, port, device=device)
            assert far.result(20)
        theirs = put(two, np.ones(5, np.float32))
        ours = put(one, np.ones(5, np.float32))
        two.comm_allreduce(theirs)
        one.comm_allreduce(ours)
        assert (got(two, theirs) == 2).all()


def test_servers_with_tls_link_over_tls(tmp_path, caplog) -> None:  # type: ignore[no-untyped-def]
    files = make_certificates(tmp_path)
    settings = CommSettings(
        server_tls=server_context(files.server, None, files.ca),
        client_tls=client_context(files.ca, files.server),
    )
    with two_servers(settings) as endpoints, clients(*endpoints) as both:
        assert link_up(*both) == (True, True)
        for count in (1000, 40_000, 600_000):
            assert_reduces(*both, count)


@pytest.mark.parametrize("plain", [0, 1])
def test_server_without_tls_does_not_link_with_one_with(
    plain: int,
    tmp_path,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(link, "MEET_SECONDS", 1.0)
    files = make_certificates(tmp_path)
    settings = [
        CommSettings(
            server_tls=server_context(files.server, None, files.ca),
            client_tls=client_context(files.ca, files.server),
        )
    ] * 2
    settings[plain] = CommSettings()
    with two_servers(*settings) as endpoints, clients(*endpoints) as both:
        assert link_up(*both) == (False, False)
        assert all(serves(endpoint) for endpoint in endpoints)


@pytest.mark.parametrize(
    ("settings", "request_", "line"),
    [
        (CommSettings(enabled=False), {"rank": 0, "port": 2000}, "--no-comm is set"),
        (CommSettings(), {"rank": 0, "port": 0}, "port 0 is not from 1024"),
        (CommSettings(), {"rank": 1, "port": 66_000}, "port 66000 is not"),
        (CommSettings(), {"rank": 2, "port": 2000}, "rank 2 of 2"),
        (CommSettings(), {"rank": 0, "port": 2000, "world": 3}, "rank 0 of 3"),
        (CommSettings(), {"rank": 1, "port": 2000, "host": "x" * 64}, "cannot find"),
        (CommSettings(), {"rank": 1, "port": 2000, "host": "192.0.2.1"}, "may not"),
        (CommSettings(), {"rank": 1, "port": 2000, "host": "0.0.0.0"}, "may not"),
        (CommSettings(), {"rank": 1, "port": 2000, "host": ""}, "cannot find"),
    ],
    ids=lambda value: "" if isinstance(value, CommSettings) else str(value),
)
def test_refused_link_is_answered_0_and_logged(
    settings: CommSettings,
    request_: dict[str, int],
    line: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(host=HERE, comm=settings) as endpoint, clients(endpoint) as (client,):
        assert not client.comm_init(**request_)  # type: ignore[arg-type]
        assert client.memory().total
    (message,) = [r.message for r in caplog.records if "no link" in r.message]
    assert "COMM_INIT: cpu has no link, so llama.cpp adds the parts itself: " in message
    assert line in message


def test_device_that_does_not_exist_is_answered_0(caplog) -> None:  # type: ignore[no-untyped-def]
    with running(host=HERE) as endpoint, clients(endpoint) as (client,):
        assert not client.comm_init(0, 2000, device=1 << 31)
        assert client.memory().total


def test_port_in_use_is_answered_0(caplog: pytest.LogCaptureFixture) -> None:
    with (
        socket.create_server((HERE, 0)) as taken,
        running(host=HERE) as endpoint,
        clients(endpoint) as (client,),
    ):
        assert not client.comm_init(0, taken.getsockname()[1])
    assert "already in use; free that port" in caplog.text.replace("Address ", "")


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("sent", [None, b"", bytes(10)], ids=["away", "silent", "half"])
def test_peer_that_does_not_greet_is_answered_0(
    rank: int, sent: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "MEET_SECONDS", 1.0)
    port = free_port()
    with (
        running(host=HERE) as endpoint,
        clients(endpoint) as (client,),
        ThreadPoolExecutor() as threads,
        ExitStack() as peer,
    ):
        server = None
        if rank == 1 and sent is not None:
            server = peer.enter_context(socket.create_server((HERE, port)))
        answer = threads.submit(client.comm_init, rank, port, HERE)
        if sent is not None:
            sock = server.accept()[0] if server else dialled(port)
            peer.enter_context(sock).sendall(sent)
        assert not answer.result(10)
        assert client.memory().total
        assert serves(endpoint)


def test_stranger_does_not_keep_the_peer_away(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    settings = CommSettings(allowlist=Allowlist([HERE]))
    with (
        running(host=HERE, comm=settings) as endpoint,
        clients(endpoint) as (client,),
        ThreadPoolExecutor() as threads,
    ):
        answer = threads.submit(client.comm_init, 0, port)
        dialled(port).close()  # from an allowed address, but it disconnects
        assert not answer.result(20)
        answer = threads.submit(client.comm_init, 0, port)
        stranger = socket.socket()
        stranger.bind(("127.0.0.9", 0))
        wait_until(lambda: stranger.connect_ex((HERE, port)) == 0)
        with stranger, dialled(port) as peer:
            assert stranger.recv(1) == b""
            peer.sendall(CAPS)
            assert answer.result(20)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("sent", [0, 200], ids=["silent", "half"])
def test_silent_peer_ends_the_session_that_uses_it(
    rank: int, sent: int, caplog: pytest.LogCaptureFixture
) -> None:
    with with_peer(HURRIED, rank) as (endpoint, client, peer):
        client.comm_allreduce(put(client, np.ones(100, np.float32)))
        if rank == 0:
            assert len(peer.recv(400, socket.MSG_WAITALL)) == 400
        peer.sendall(bytes(sent))
        assert_ended(client)
        assert serves(endpoint)
    (line,) = [r.message for r in caplog.records if "failed" in r.message]
    assert "COMM_ALLREDUCE: the link of cpu with 127.0.0.1:" in line
    assert "longer than 0.5 s; increase --comm-timeout; the connection is" in line


@pytest.mark.parametrize("rank", [0, 1])
def test_peer_of_another_size_ends_the_session(
    rank: int, caplog: pytest.LogCaptureFixture
) -> None:
    with with_peer(CommSettings(), rank) as (endpoint, client, peer):
        tensor = put(client, np.ones(100, np.float32))
        peer.sendall(bytes(500))
        if rank == 0:
            time.sleep(0.2)
        client.comm_allreduce(tensor)
        assert_ended(client)
        assert serves(endpoint)
    assert "sent more than the 100 elements of this tensor" in caplog.text


@pytest.mark.parametrize("rank", [0, 1])
def test_broken_link_ends_the_session_that_uses_it(
    rank: int, caplog: pytest.LogCaptureFixture
) -> None:
    with with_peer(CommSettings(), rank) as (endpoint, client, peer):
        tensor = put(client, np.ones(100, np.float32))
        peer.close()
        assert client.memory().total  # until it is used
        client.comm_allreduce(tensor)
        assert_ended(client)
        assert serves(endpoint)
    assert "the link of cpu with 127.0.0.1:" in caplog.text


def test_session_that_closes_closes_its_link() -> None:
    with two_servers(CommSettings()) as endpoints, clients(*endpoints) as (one, other):
        assert link_up(one, other) == (True, True)
        other.close()
        one.comm_allreduce(put(one, np.ones(10, np.float32)))
        assert_ended(one)


def test_server_that_stops_gives_up_a_peer_that_does_not_come() -> None:
    with ThreadPoolExecutor() as threads:
        with running(host=HERE) as endpoint:
            client = connect(endpoint, timeout=20)
            answer = threads.submit(client.comm_init, 0, free_port())
            time.sleep(0.2)
            start = time.monotonic()
        assert time.monotonic() - start < 4
        assert not answer.result(5)
    client.close()


def test_server_that_stops_cuts_a_reduction_off(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with running(host=HERE, grace=0.2) as endpoint, ThreadPoolExecutor() as threads:
        port = free_port()
        client = connect(endpoint, timeout=20)
        with socket.create_server((HERE, port)) as server:
            answer = threads.submit(client.comm_init, 1, port, HERE)
            sock = server.accept()[0]
            sock.sendall(CAPS)
            assert answer.result(20)
        client.comm_allreduce(put(client, np.ones(100, np.float32)))
        time.sleep(0.1)
    with sock:
        assert sock.recv(24, socket.MSG_WAITALL) == CAPS
        assert sock.recv(1) == b""
    client.close()
    assert "COMM_ALLREDUCE: this server stops" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"type": GGMLType.F16},
        {"nb": (8, 800, 800, 800)},
        {"ne": (1 << 20, 1, 1, 1)},
        {"buffer": 12345},
    ],
    ids=lambda change: next(iter(change)),
)
def test_invalid_tensor_ends_the_session(change: dict[str, object]) -> None:
    with two_servers(CommSettings()) as endpoints, clients(*endpoints) as both:
        assert link_up(*both) == (True, True)
        one = both[0]
        one.comm_allreduce(put(one, np.ones(100, np.float32))._replace(**change))  # type: ignore[arg-type]
        assert_ended(one)
        assert all(serves(endpoint) for endpoint in endpoints)


def test_reduction_without_a_link_ends_the_session(caplog) -> None:  # type: ignore[no-untyped-def]
    with running(host=HERE) as endpoint, clients(endpoint) as (client,):
        client.comm_allreduce(put(client, np.ones(100, np.float32)))
        assert_ended(client)
        assert serves(endpoint)
    assert "cpu has no link: COMM_INIT comes first" in caplog.text


def test_memory_of_a_reduction_counts_against_the_quota(
    caplog: pytest.LogCaptureFixture,
) -> None:
    count = 600_000
    limits = Limits(client_memory=4 * count + 1000)
    with (
        two_servers(CommSettings(), limits=limits) as endpoints,
        clients(*endpoints) as both,
    ):
        assert link_up(*both) == (True, True)
        tensors = [put(client, np.ones(count, np.float32)) for client in both]
        for client, tensor in zip(both, tensors, strict=True):
            client.comm_allreduce(tensor)
        assert_ended(both[1])  # rank 1 needs memory for a whole tensor
        assert_ended(both[0])
    assert "--max-client-memory" in caplog.text


def test_reduction_releases_its_quota_at_the_end() -> None:
    count = link.CHUNK + 1
    limits = Limits(client_memory=4 * count + 2 * count)  # a tensor, and it as BF16
    with (
        two_servers(CommSettings(), limits=limits) as endpoints,
        clients(*endpoints) as both,
    ):
        assert link_up(*both) == (True, True)
        assert_reduces(*both, count)
        for client in both:
            client.allocate(2 * count)


def test_tensor_beyond_all_measure_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(comm, "MAX_ELEMENTS", 99)
    with two_servers(CommSettings()) as endpoints, clients(*endpoints) as both:
        assert link_up(*both) == (True, True)
        both[0].comm_allreduce(put(both[0], np.ones(100, np.float32)))
        assert_ended(both[0])
    assert "100 elements are more than 99" in caplog.text


def hostile(endpoint: Endpoint, seeded: random.Random) -> None:
    """Send COMM commands with any fields, in any order."""
    numbers = (0, 1, 2, 3, 0xFFFFFFFF, 80, 1023, free_port(), 65536)
    with suppress(GgrpcError), connect(endpoint, timeout=30) as client:
        tensor = vector(client, seeded.choice([1, 100, 40_000]))
        for _ in range(seeded.randrange(1, 8)):
            device, rank, world, port = (seeded.choice(numbers) for _ in range(4))
            if seeded.random() < 0.7:
                device, world = 0, 2
            kind = seeded.randrange(4)
            if kind == 0:
                host = bytes(seeded.choice(b"\0a.:%1-\xff") for _ in range(64))
                request = m.CommInit(
                    device=device, rank=rank, world=world, port=port, host=host
                )
                client._ask(request, m.Result)
            elif kind == 1:
                client.comm_free(device)
            elif kind == 2:
                client.comm_allreduce(tensor, device)
            else:
                client.memory()


def test_server_survives_clients_that_misuse_links(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(link, "MEET_SECONDS", 0.2)
    with (
        running(host=HERE, comm=replace(HURRIED, timeout=0.2)) as endpoint,
        ThreadPoolExecutor(8) as threads,
    ):
        seeds = [random.Random(seed) for seed in range(60)]
        list(threads.map(hostile, [endpoint] * len(seeds), seeds))
        assert serves(endpoint)
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


def test_truncated_init_is_refused() -> None:
    with running(host=HERE) as endpoint:
        for size in (0, 15, 79, 81, 1 << 40):
            with socket.create_connection(endpoint, 20) as sock:
                sock.sendall(struct.pack("<BQ", 14, 24) + CAPS)
                sock.sendall(struct.pack("<BQ", 20, size))
                assert sock.recv(100, socket.MSG_WAITALL)[36:] == b""
        assert serves(endpoint)
