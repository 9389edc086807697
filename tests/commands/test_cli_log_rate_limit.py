from __future__ import annotations

import contextlib
import io
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from ggrpc.commands import log_rate_limit
from ggrpc.commands.environment import Environment
from ggrpc.commands.log_rate_limit import MAX_LINES
from ggrpc.commands.logs import LogFormat, LogLevel, logging_to
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from ggrpc.engine.server.limits import Limits
from ggrpc.errors import ConnectionLost, OutOfMemory
from ggrpc.log_topic import Topic
from tests.support.clients import hello, reset
from tests.support.servers import running

log = logging.getLogger("ggrpc.tests")


def logging_to_stderr(style: LogFormat = LogFormat.text, level: LogLevel | None = None):  # type: ignore[no-untyped-def]
    environment = Environment(io.StringIO(), io.StringIO())
    return environment.stderr, logging_to(environment, level, style)


def log_warning(peer: str, number: int) -> None:
    log.warning("%s: complaint %d", peer, number, extra={"peer": peer})


def test_each_host_is_limited_separately() -> None:
    stream, context = logging_to_stderr()
    with context:
        for number in range(100):
            log_warning(f"10.0.0.1:{1000 + number}", number)
        log_warning("10.0.0.2:1000", 0)
        log.warning("without a host")
    text = stream.getvalue()
    assert text.count("complaint") == MAX_LINES + 1
    assert "10.0.0.2:1000: complaint 0" in text
    assert f"10.0.0.1: {100 - MAX_LINES} more lines like these were omitted\n" in text
    assert text.count("omitted") == 1
    assert "without a host" in text


def test_next_interval_has_lines_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rate_limit, "INTERVAL", 0.05)
    stream, context = logging_to_stderr()
    with context:
        for _ in range(MAX_LINES + 2):
            log_warning("10.0.0.1:1000", 1)
        deadline = time.monotonic() + 10
        while "2 more lines" not in stream.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        log_warning("10.0.0.1:1000", 2)
    assert "complaint 2" in stream.getvalue()


def test_lines_are_limited_if_no_thread_can_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", fail)
    stream, context = logging_to_stderr()
    with context:
        for number in range(MAX_LINES + 3):
            log_warning("10.0.0.1:1000", number)
    assert stream.getvalue().count("complaint") == MAX_LINES
    assert "10.0.0.1: 3 more lines" in stream.getvalue()


def test_topics_are_limited_separately() -> None:
    stream, context = logging_to_stderr()
    peer = {"peer": "10.0.0.1:1"}
    with context:
        for _ in range(20):
            log.info("comes and goes", extra=peer)
            log.warning("is strange", extra={**peer, "topic": Topic.STRANGERS})
        log.warning("is refused", extra=peer)
        log.info("gets a no", extra={**peer, "topic": Topic.REASONS})
    text = stream.getvalue()
    assert text.count("comes and goes") == text.count("is strange") == MAX_LINES
    assert "WARNING is refused" in text
    assert "INFO gets a no" in text
    assert text.count(f"10.0.0.1: {20 - MAX_LINES} more lines like these") == 2


def test_thread_name_tells_the_host() -> None:
    stream, context = logging_to_stderr()
    with context:

        def say() -> None:
            for _ in range(MAX_LINES + 3):
                log.info("something")

        thread = threading.Thread(target=say, name="[fd00::1]:50052")
        thread.start()
        thread.join()
    assert stream.getvalue().count("something") == MAX_LINES
    assert "fd00::1: 3 more lines" in stream.getvalue()


def test_debugging_shows_everything() -> None:
    stream, context = logging_to_stderr(level=LogLevel.debug)
    with context:
        for _ in range(20):
            log.debug("detail", extra={"peer": "10.0.0.1:1"})
    assert stream.getvalue().count("detail") == 20


def hello_and_leave(endpoint: Endpoint) -> None:
    hello(endpoint).close()


def send_junk(endpoint: Endpoint) -> None:
    with socket.create_connection(endpoint) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        sock.settimeout(20)
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""


def ask_and_reset(endpoint: Endpoint) -> None:
    with hello(endpoint) as sock:
        sock.sendall(b"\x0f" + bytes(8))  # DEVICE_COUNT
        assert sock.recv(12, socket.MSG_WAITALL)
        reset(sock)


def use_memory_and_leave(endpoint: Endpoint) -> None:
    with connect(endpoint, timeout=20) as client:
        client.allocate(100)


@pytest.mark.parametrize(
    "stranger", [hello_and_leave, send_junk, ask_and_reset, use_memory_and_leave]
)
def test_reason_of_a_session_is_logged_beside_strangers_of_its_address(
    stranger: Callable[[Endpoint], None],
) -> None:
    stream, context = logging_to_stderr()
    with context, running(host="127.0.0.1", limits=Limits(nodes=3)) as endpoint:
        for _ in range(40):
            stranger(endpoint)
        client = connect(endpoint, timeout=20)
        with pytest.raises(OutOfMemory):
            client.allocate(1 << 60)
        client.compute_encoded(struct.pack("<I", 4) + bytes(32) + struct.pack("<I", 0))
        with pytest.raises(ConnectionLost):
            client.memory()
        client.close()
    text = stream.getvalue()
    assert "ALLOC_BUFFER: " in text
    assert "GRAPH_COMPUTE: a graph of 4 nodes exceeds --max-nodes (3)" in text
    assert text.count("\n") < 40


def test_hostile_clients_log_only_a_few_lines() -> None:
    stream, context = logging_to_stderr()
    with context, running(host="127.0.0.1") as endpoint:
        for _ in range(50):
            send_junk(endpoint)
    text = stream.getvalue()
    assert MAX_LINES <= text.count("the client speaks HTTP") < 50
    assert "more lines like these were omitted" in text
