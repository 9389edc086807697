"""What goes wrong in one session, on its device or on its line, and stays there."""

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
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, connect
from ggrpc.engine.wire import messages as m
from ggrpc.errors import ConnectionLost, DeviceError, GgrpcError, OutOfMemory
from ggrpc.graph import Graph
from ggrpc.op import Op
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.devices import Endless, Faulty
from tests.support.processes import Served
from tests.support.servers import running

MIB = 1 << 20


def vector(client: Client, count: int) -> Tensor:
    """A float32 vector in a buffer of its own."""
    buffer, ne = client.allocate(4 * count), (count, 1, 1, 1)
    nb = contiguous_nb(GGMLType.F32, ne)
    return Tensor(1, GGMLType.F32, buffer, ne, nb, data=client.base(buffer))


def squares(client: Client) -> tuple[Tensor, Graph]:
    """The result of squaring 0 to 7, and its graph, the input being set."""
    x, y = vector(client, 8), vector(client, 8)
    y = y._replace(id=2, op=Op.SQR, src=(1,) + (0,) * 9)
    client.set_tensor(x, np.arange(8, dtype=np.float32).tobytes())
    return y, Graph.of([x, y], [2])


def computes(client: Client) -> bool:
    """Whether a client gets a graph computed."""
    y, graph = squares(client)
    client.compute(graph)
    values = np.empty(8, np.float32)
    client.get_tensor(y, memoryview(values).cast("B"))
    return values.tolist() == [n * n for n in range(8)]


def serves(endpoint: Endpoint) -> bool:
    """Whether a new client is served."""
    with connect(endpoint, timeout=20) as client:
        return computes(client)


def wait_until(holds, seconds: float = 20) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reset(sock: socket.socket) -> None:
    """Close a connection the hard way."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("place", ["compile", "run", "memory"])
@pytest.mark.parametrize(
    "fault",
    [
        lambda: DeviceError("the driver says no"),
        lambda: OutOfMemory("it is full"),
        lambda: MemoryError(),
        lambda: RecursionError("too deep"),
        lambda: ZeroDivisionError("a bug"),
    ],
    ids=["device", "full", "memory", "recursion", "bug"],
)
def test_fault_of_a_device_ends_that_session_alone(place: str, fault) -> None:  # type: ignore[no-untyped-def]
    device = Faulty("", fault)
    with running(device) as endpoint, connect(endpoint, timeout=20) as bystander:
        assert computes(bystander)
        with connect(endpoint, timeout=20) as client:
            y, graph = squares(client)
            device.place = place
            with pytest.raises(ConnectionLost):
                client.compute(graph)
                client.get_tensor(y, memoryview(bytearray(4)))
                client.memory()
            device.place = ""
        assert computes(bystander)
        assert serves(endpoint)
    assert device._handed_out == 0


@pytest.mark.parametrize("fault", [MemoryError, lambda: DeviceError("no")])
def test_fault_in_allocation_ends_that_session_alone(fault) -> None:  # type: ignore[no-untyped-def]
    device = Faulty("allocate", fault)
    with running(device) as endpoint:
        with connect(endpoint, timeout=20) as client, pytest.raises(ConnectionLost):
            client.allocate(100)
        device.place = ""
        assert serves(endpoint)


def test_fault_in_freeing_costs_no_other_buffer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    device = Faulty("", lambda: DeviceError("the driver says no"))
    with running(device) as endpoint:
        with connect(endpoint, timeout=20) as client:
            for _ in range(3):
                client.allocate(100)
            device.place = "free"
        wait_until(lambda: device._handed_out == 0)
        device.place = ""
        assert serves(endpoint)
    assert "not all memory was freed" in caplog.text


def test_session_that_computes_keeps_nobody_from_asking() -> None:
    done = threading.Event()
    with running(Endless(done.is_set)) as endpoint:
        busy = [connect(endpoint, timeout=20) for _ in range(6)]
        for client in busy:
            client.compute(squares(client)[1])
        with connect(endpoint, timeout=20) as asking:
            assert asking.device_count() == 1
            assert asking.memory().total
        done.set()
        for client in busy:
            assert client.memory()
            client.close()


def test_stop_lets_a_graph_finish() -> None:
    done = threading.Event()
    with running(Endless(done.is_set), grace=30) as endpoint:
        client = connect(endpoint, timeout=20)
        y, graph = squares(client)
        client.compute(graph)
        threading.Timer(0.3, done.set).start()
        request = threading.Thread(target=read, args=(client, y))
        request.start()
        time.sleep(0.1)
    request.join(20)
    assert not request.is_alive()
    client.close()


def read(client: Client, tensor: Tensor) -> None:
    client.get_tensor(tensor, memoryview(bytearray(tensor.nbytes)))


def test_stop_gives_up_a_graph_after_the_grace(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with running(Endless(lambda: False), grace=0.2) as endpoint:
        client = connect(endpoint, timeout=20)
        client.compute(squares(client)[1])
        time.sleep(0.2)
    client.close()
    assert "1 sessions are cut off (--grace)" in caplog.text
    assert "the server stops: the graph was cancelled" in caplog.text


@pytest.mark.parametrize("half", ["data", "graph", "head", "computing"])
def test_client_that_is_reset_gives_all_back(half: str) -> None:
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


def test_client_that_does_not_read_is_alone_with_that() -> None:
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
import sys, time
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import connect
from tests.engine.server.test_faults import vector, squares
client = connect(Endpoint.parse(sys.argv[1]), timeout=60)
tensor, (_, graph) = vector(client, 4 << 20), squares(client)
data = bytes(tensor.nbytes)
print("ready", flush=True)
while True:
    client.compute(graph)
    client.set_tensor(tensor, data)
"""


def test_client_that_is_killed_gives_all_back() -> None:
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
            assert victim.stdout.readline() == b"ready\n"
            time.sleep(0.05 * at)
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait(20)
            victim.stdout.close()
        wait_until(lambda: device._handed_out == 0)
        assert serves(endpoint)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit")
def test_server_out_of_files_serves_again_when_there_are_some(tmp_path: Path) -> None:
    served = Served(["--threads", "1"], str(tmp_path))
    endpoint = served.endpoint
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (40, 40))
    held = [socket.create_connection(endpoint) for _ in range(100)]
    served.wait_for_line("cannot accept: Too many open files")
    for sock in held:
        sock.close()
    assert serves(endpoint)
    assert served.stop() == 0


def test_server_out_of_threads_lets_a_silent_client_go(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    running_ones: list[threading.Thread] = []

    class Scarce(threading.Thread):
        def start(self) -> None:
            running_ones[:] = [thread for thread in running_ones if thread.is_alive()]
            if len(running_ones) == 2:
                raise RuntimeError("can't start new thread")
            running_ones.append(self)
            super().start()

    monkeypatch.setattr("ggrpc.engine.server.server.Thread", Scarce)
    with running() as endpoint, connect(endpoint) as holder:
        tensor = vector(holder, 8)
        with connect(endpoint) as silent:
            # The newcomer itself may come too early for the place that it is given.
            with suppress(GgrpcError), connect(endpoint, timeout=20) as client:
                client.memory()
            with pytest.raises(ConnectionLost):
                silent.memory()
        wait_until(lambda: not all(thread.is_alive() for thread in running_ones))
        assert serves(endpoint)
        holder.get_tensor(tensor, memoryview(bytearray(tensor.nbytes)))
    assert "no thread to serve it" in caplog.text
