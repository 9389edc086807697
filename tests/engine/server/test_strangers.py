"""Many connections begin and end while a session computes."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.server.limits import Limits
from ggrpc.engine.server.pacing import BURST, MAX_SLEEP, Pacer, StrangerBudget
from tests.support.clients import (
    HELLO,
    WELCOME_BYTES,
    closed_within,
    computes,
    hello,
    reset,
    serves,
    squares,
)
from tests.support.processes import serving
from tests.support.servers import running
from tests.support.waiting import wait_until

JUNK = b"GET / HTTP/1.0\r\n\r\n"


def client_threads() -> list[str]:
    """The names of the threads of this process that serve clients: their addresses."""
    return [t.name for t in threading.enumerate() if t.name.startswith("127.0.")]


def stranger(endpoint: Endpoint, number: int = 0) -> socket.socket:
    """A connection from one of several addresses of this machine."""
    sock = socket.socket()
    sock.bind((f"127.0.1.{1 + number % 8}", 0))
    sock.connect(endpoint)
    return sock


@contextmanager
def crowd(endpoint: Endpoint, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Connections that have all sent some bytes."""
    with ExitStack() as stack:
        socks = [stack.enter_context(stranger(endpoint, n)) for n in range(count)]
        for sock in socks:
            sock.sendall(sent)
        yield socks


@pytest.mark.parametrize("sent", [b"", HELLO[:1], HELLO[:20]], ids=len)
def test_connection_without_hello_has_no_thread(sent: bytes) -> None:
    with running(host="127.0.0.1") as endpoint, crowd(endpoint, 50, sent) as socks:
        assert serves(endpoint)
        wait_until(lambda: not client_threads())
        for sock in socks:
            sock.sendall(HELLO[len(sent) :])
            assert len(sock.recv(WELCOME_BYTES, socket.MSG_WAITALL)) == WELCOME_BYTES


def test_connection_that_only_said_hello_has_no_thread_and_gets_one() -> None:
    with running(host="127.0.0.1") as endpoint, crowd(endpoint, 50, HELLO) as socks:
        for sock in socks:
            assert len(sock.recv(WELCOME_BYTES, socket.MSG_WAITALL)) == WELCOME_BYTES
        assert not client_threads()
        socks[0].sendall(b"\x0f" + bytes(8))  # DEVICE_COUNT
        assert len(socks[0].recv(12, socket.MSG_WAITALL)) == 12
        assert len(client_threads()) == 1


@pytest.mark.parametrize("pieces", [1, 2, 33], ids="{} pieces".format)
def test_hello_and_the_next_request_may_come_in_any_pieces(pieces: int) -> None:
    sent = HELLO + b"\x0f" + bytes(8)
    size = -(-len(sent) // pieces)
    with running() as endpoint, socket.create_connection(endpoint) as sock:
        for start in range(0, len(sent), size):
            sock.sendall(sent[start : start + size])
            time.sleep(0.005)
        assert len(sock.recv(WELCOME_BYTES + 12, socket.MSG_WAITALL)) == 36 + 12


def close(sock: socket.socket) -> None:
    sock.close()


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("sent", [b"", HELLO, JUNK], ids=["none", "hello", "junk"])
def test_crowd_that_leaves_at_once_leaves_nothing_behind(sent: bytes, end) -> None:  # type: ignore[no-untyped-def]
    with running(host="127.0.0.1") as endpoint:
        with connect(endpoint, timeout=20) as bystander:
            assert computes(bystander)
            files = len(os.listdir("/proc/self/fd"))
            with crowd(endpoint, 500, sent) as socks:
                for sock in socks:
                    end(sock)
            assert computes(bystander)
            assert serves(endpoint)
            wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files)
        wait_until(lambda: not client_threads())


@pytest.mark.parametrize("over", ["clients", "clients_per_address"])
def test_crowd_over_a_limit_is_replaced_in_order(over: str) -> None:
    limits = Limits(**{over: 40})
    with running(host="127.0.0.1", limits=limits) as endpoint, ExitStack() as stack:
        owner = stack.enter_context(connect(endpoint, timeout=20))
        owner.allocate(100)
        socks = [stack.enter_context(hello(endpoint)) for _ in range(120)]
        assert owner.memory()
        assert all(closed_within(sock, 10) for sock in socks[:81])
        assert not any(closed_within(sock, 0.01) for sock in socks[81:])


def test_crowd_costs_a_session_at_work_little_and_delays_no_client() -> None:
    with serving() as served, connect(served.endpoint, timeout=60) as client:
        y, graph = squares(client)
        stopping, worst = threading.Event(), 0.0

        def flood() -> None:
            while not stopping.is_set():
                with crowd(served.endpoint, 200, HELLO):
                    pass

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            end = time.monotonic() + 3
            while time.monotonic() < end:
                began = time.monotonic()
                client.compute(graph)
                client.get_tensor(y, memoryview(bytearray(y.nbytes)))
                worst = max(worst, time.monotonic() - began)
            with connect(served.endpoint, timeout=10) as newcomer:
                assert computes(newcomer)
        finally:
            stopping.set()
            thread.join()
        assert worst < 2


def test_budget_holds_strangers_up_only_while_sessions_compute() -> None:
    busy = True
    budget = StrangerBudget(lambda: busy)
    budget.spend(BURST / 2)
    assert budget.delay() == 0
    budget.spend(10)
    assert budget.delay() == MAX_SLEEP
    busy = False
    assert budget.delay() == 0
    busy = True
    assert budget.delay() <= 0.001  # a debt is dropped when no session needs the time


def test_pacer_counts_the_time_of_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    used = iter([100.0, 100.0 + BURST / 2, 200.0])
    monkeypatch.setattr(time, "thread_time", lambda: next(used))
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    pacer = Pacer(StrangerBudget(lambda: True))
    pacer()
    pacer()
    assert not slept
    pacer()
    assert slept == [MAX_SLEEP]
