"""Thousands of sessions, many of them hostile, must not make the server grow.

`pytest tests/soak --soak-sessions 40000` runs more sessions than by default.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import psutil
import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.support.clients import HELLO, byte_vector, computes
from tests.support.processes import serving
from tests.support.raw_clients import FREQUENT, killed

MIB = 1 << 20
MEMORY = 512 * MIB
KEPT = MIB  # bytes of the bystander's buffer
AT_ONCE = 8
WARM_UP = 400  # sessions that fill caches and the free lists of the allocator
# By how much the allocator may make the process grow, for any number of sessions.
SLACK = 24 * MIB
TIMER = 1  # the thread that logs the number of omitted log lines


class State(NamedTuple):
    """The resources of a process."""

    files: int
    threads: int
    resident: int

    @classmethod
    def of(cls, process: psutil.Process) -> State:
        with process.oneshot():
            resident = process.memory_info().rss
            return cls(process.num_fds(), process.num_threads(), resident)


@pytest.fixture
def server() -> Iterator[tuple[Endpoint, psutil.Process]]:
    """A server process. Its fixed --max-memory shows exactly how much is free."""
    flags = ["-d", "cpu", "-t", "1", "--weight-cache", "0", "-qq"]
    flags += ["--max-memory", str(MEMORY), "--log-level", "info"]
    with serving(*flags) as served:
        yield served.endpoint, psutil.Process(served.process.pid)


def run_sessions(endpoint: Endpoint, count: int, seed: int) -> None:
    """Run sessions of all kinds, several at a time, and raise their failures."""
    seeded = random.Random(seed)
    kinds = seeded.choices(FREQUENT, k=count)
    for at in range(0, count, 200):
        kinds[at] = killed
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = [
            pool.submit(kind, endpoint, random.Random(seed + at))
            for at, kind in enumerate(kinds)
        ]
        for session in done:
            session.result()


def settled(endpoint: Endpoint, process: psutil.Process, kept: int) -> State:
    """The state when all sessions have ended, except one that keeps `kept` bytes."""
    deadline = time.monotonic() + 60
    with connect(endpoint, timeout=60) as client:
        before = None
        while True:
            now = State.of(process)
            free = client.memory().free
            if free == MEMORY - kept and before and now[:2] == before[:2]:
                return now
            assert time.monotonic() < deadline, (free, now)
            before = now
            time.sleep(0.3)


def test_server_is_the_same_after_thousands_of_sessions(
    server: tuple[Endpoint, psutil.Process], pytestconfig: pytest.Config
) -> None:
    endpoint, process = server
    count = pytestconfig.getoption("--soak-sessions")
    with connect(endpoint, timeout=60) as bystander:
        tensor = byte_vector(bystander, KEPT)
        mine = random.Random(0).randbytes(KEPT)
        bystander.set_tensor(tensor, mine)
        run_sessions(endpoint, WARM_UP, seed=1)
        before = settled(endpoint, process, KEPT)
        run_sessions(endpoint, count, seed=2)
        after = settled(endpoint, process, KEPT)
        back = bytearray(KEPT)
        bystander.get_tensor(tensor, memoryview(back))
        assert back == mine
        assert computes(bystander)
    print(f"{count} sessions: {before} became {after}")  # shown with -s
    assert after.files <= before.files
    assert after.threads <= before.threads + TIMER
    assert after.resident <= before.resident + SLACK


def test_thousand_silent_connections_do_not_keep_clients_out(
    server: tuple[Endpoint, psutil.Process],
) -> None:
    endpoint, process = server
    before = settled(endpoint, process, 0)
    begun = (b"", HELLO[:5], HELLO, HELLO + b"\x0a", HELLO + b"\x0a\xff")
    with ExitStack() as stack:
        for at in range(1000):
            sock = stack.enter_context(socket.create_connection(endpoint, 30))
            sock.sendall(begun[at % len(begun)])
        for _ in range(5):
            with connect(endpoint, timeout=60) as client:
                assert computes(client)
    after = settled(endpoint, process, 0)
    assert after.files <= before.files
    assert after.threads <= before.threads + TIMER
