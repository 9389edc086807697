"""Failures of a device or a connection, which must not affect other sessions."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.wire import messages as m
from ggrpc.errors import ConnectionLost, DeviceError, GgrpcError, OutOfMemory
from ggrpc.graph import Graph
from ggrpc.tensor import Tensor
from tests.support.clients import computes, reset, serves, squares, vector
from tests.support.devices import Endless, Faulty
from tests.support.processes import Served
from tests.support.servers import running
from tests.support.waiting import wait_until

MIB = 1 << 20


@pytest.mark.parametrize("place", ["compile", "run", "memory"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda: DeviceError("the driver failed"),
        lambda: OutOfMemory("out of memory"),
        lambda: MemoryError(),
        lambda: RecursionError("too deep"),
        lambda: ZeroDivisionError("a bug"),
    ],
    ids=["device", "full", "memory", "recursion", "bug"],
)
def test_fault_of_a_device_ends_one_session(place: str, fault) -> None:  # type: ignore[no-untyped-def]
    def use(client: Client, y: Tensor, graph: Graph) -> None:
        client.compute(graph)
        client.get_tensor(y, memoryview(bytearray(4)))
        client.memory()

    device = Faulty("", fault)
    with running(device) as endpoint, connect(endpoint, timeout=20) as bystander:
        assert computes(bystander)
        with connect(endpoint, timeout=20) as client:
            y, graph = squares(client)
            device.place = place
            with pytest.raises(ConnectionLost):
                use(client, y, graph)
            device.place = ""
        assert computes(bystander)
        assert serves(endpoint)
    assert device._handed_out == 0


@pytest.mark.parametrize("fault", [MemoryError, lambda: DeviceError("no")])
def test_fault_in_allocation_ends_one_session(fault) -> None:  # type: ignore[no-untyped-def]
    device = Faulty("allocate", fault)
    with running(device) as endpoint:
        with connect(endpoint, timeout=20) as client, pytest.raises(ConnectionLost):
            client.allocate(100)
        device.place = ""
        assert serves(endpoint)


def test_fault_in_freeing_leaks_no_other_buffer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = Faulty("", lambda: DeviceError("the driver failed"))
    with running(device) as endpoint:
        with connect(endpoint, timeout=20) as client:
            for _ in range(3):
                client.allocate(100)
            device.place = "free"
        wait_until(lambda: device._handed_out == 0)
        device.place = ""
        assert serves(endpoint)
    assert "not all memory was freed" in caplog.text


def test_session_that_computes_does_not_block_queries() -> None:
    done = threading.Event()
    with running(Endless(done.is_set)) as endpoint:
        busy = [connect(endpoint, timeout=20) for _ in range(6)]
        for client in busy:
            client.compute(squares(client)[1])
        with connect(endpoint, timeout=20) as querying:
            assert querying.device_count() == 1
            assert querying.memory().total
        done.set()
        for client in busy:
            assert client.memory()
            client.close()


def test_stop_lets_a_graph_finish() -> None:
    started, done = threading.Event(), threading.Event()

    def ends() -> bool:
        started.set()
        return done.is_set()

    with running(Endless(ends), grace=30) as endpoint:
        client = connect(endpoint, timeout=20)
        y, graph = squares(client)
        client.compute(graph)
        request = m.GetTensor(tensor=y, offset=0, size=y.nbytes)
        client._stream.send(client._connection.request(request))
        assert started.wait(20)
        threading.Timer(0.3, done.set).start()  # while the server stops
    client._stream.receive_exactly(memoryview(bytearray(8 + y.nbytes)))
    client.close()


def test_stop_cancels_a_graph_after_the_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    started = threading.Event()

    def ends() -> bool:
        started.set()
        return False

    caplog.set_level(logging.INFO)
    with running(Endless(ends), grace=0.2) as endpoint:
        client = connect(endpoint, timeout=20)
        client.compute(squares(client)[1])
        assert started.wait(20)
    client.close()
    assert "1 sessions are cut off (--grace)" in caplog.text
    assert "the server stops: the graph was cancelled" in caplog.text


@pytest.mark.parametrize("half", ["data", "graph", "head", "computing"])
def test_memory_of_a_client_that_resets_is_freed(half: str) -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    with running(device) as endpoint:
        client = connect(endpoint, timeout=20)
        x = vector(client, MIB)
        _, graph = squares(client)
        if half == "computing":
            for _ in range(5):
                client.compute(graph)
        else:
            client._stream.send([HALVES[half](x)])
        reset(client._stream._socket)
        wait_until(lambda: device._handed_out == 0)
        assert serves(endpoint)


HALVES = {
    "data": lambda x: struct.pack("<BQ", 6, 305 + x.nbytes) + bytes(305 + 1000),
    "graph": lambda x: struct.pack("<BQ", 10, 10_000) + bytes(5000),
    "head": lambda x: b"\x0a\x00",
}


def test_client_that_closes_its_half_gets_its_replies() -> None:
    with running() as endpoint, connect(endpoint, timeout=20) as client:
        y, graph = squares(client)
        client.compute(graph)
        sock = client._stream._socket
        values = bytearray(y.nbytes)
        request = client._connection.request(
            m.GetTensor(tensor=y, offset=0, size=y.nbytes)
        )
        client._stream.send(request)
        sock.shutdown(socket.SHUT_WR)
        head = sock.recv(8, socket.MSG_WAITALL)
        assert struct.unpack("<Q", head) == (32,)
        assert sock.recv_into(values, 0, socket.MSG_WAITALL) == 32
        assert np.frombuffer(values, np.float32).tolist() == [n * n for n in range(8)]
        assert sock.recv(1) == b""


def test_client_that_does_not_read_blocks_no_other() -> None:
    with running() as endpoint, connect(endpoint, timeout=20) as client:
        x = vector(client, 16 * MIB)
        client._connection.request(m.GetTensor(tensor=x, offset=0, size=x.nbytes))
        client._stream._socket.shutdown(socket.SHUT_RD)
        with suppress(GgrpcError):
            client._stream.send(
                client._connection.request(
                    m.GetTensor(tensor=x, offset=0, size=x.nbytes)
                )
            )
        assert serves(endpoint)


KILLED = """
import sys
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from tests.support.clients import vector, squares
client = connect(Endpoint.parse(sys.argv[1]), timeout=60)
tensor, (_, graph) = vector(client, 4 << 20), squares(client)
data = bytes(tensor.nbytes)
while True:
    print("next", flush=True)
    client.compute(graph)
    client.set_tensor(tensor, data)
"""


def test_memory_of_a_client_that_is_killed_is_freed() -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    with running(device) as endpoint:
        victims = [
            subprocess.Popen(
                [sys.executable, "-c", KILLED, str(endpoint)], stdout=subprocess.PIPE
            )
            for _ in range(2)
        ]
        for at, victim in enumerate(victims):
            assert victim.stdout is not None
            for _ in range(1 + 5 * at):  # at another moment for each
                assert victim.stdout.readline() == b"next\n"
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait(20)
            victim.stdout.close()
        wait_until(lambda: device._handed_out == 0)
        assert serves(endpoint)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_server_out_of_files_serves_again_after_some_close(tmp_path: Path) -> None:
    served = Served(["--threads", "1"], str(tmp_path))
    endpoint = served.endpoint
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (40, 40))
    held = [socket.create_connection(endpoint) for _ in range(100)]
    served.wait_for_line("cannot accept: Too many open files")
    for sock in held:
        sock.close()
    assert serves(endpoint)
    assert served.stop() == 0


def test_server_out_of_threads_evicts_an_idle_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[threading.Thread] = []

    class Scarce(threading.Thread):
        def start(self) -> None:
            started[:] = [thread for thread in started if thread.is_alive()]
            if len(started) == 2:
                raise RuntimeError("can't start new thread")
            started.append(self)
            super().start()

    monkeypatch.setattr("ggrpc.engine.server.server.Thread", Scarce)
    with running() as endpoint, connect(endpoint) as holder:
        tensor = vector(holder, 8)
        with connect(endpoint) as idle:
            # The new client itself may arrive before a thread is free.
            with suppress(GgrpcError), connect(endpoint, timeout=20) as client:
                client.memory()
            with pytest.raises(ConnectionLost):
                idle.memory()
        wait_until(lambda: not all(thread.is_alive() for thread in started))
        assert serves(endpoint)
        holder.get_tensor(tensor, memoryview(bytearray(tensor.nbytes)))
    assert "no thread to serve it" in caplog.text
