from __future__ import annotations

import struct
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import numpy as np
import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device
from ggrpc.engine.server import session as module
from ggrpc.engine.server.limits import COMPILING, Limits
from ggrpc.engine.server.quotas import ServerQuota
from ggrpc.engine.server.session import Session
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import V7_0_0
from ggrpc.errors import RefusedError
from ggrpc.tensor import Tensor, contiguous_nb
from ggrpc.types import GGMLType
from tests.support.waiting import wait_until

NO_LIMITS = Limits()


class Link:
    """A data link that delivers `incoming`, and lists the addresses of views."""

    def __init__(self, incoming: bytes = b"") -> None:
        self.incoming = incoming
        self.outgoing = b""
        self.addresses: list[int] = []

    def receive_data(self, view: memoryview) -> None:
        self.addresses.append(np.frombuffer(view, np.uint8).ctypes.data)
        view[:] = self.incoming

    def note(self, what: object) -> None:
        """Do nothing."""

    def send(self, request: m.Request, reply: m.Reply) -> None:
        assert isinstance(reply, m.TensorData)
        assert isinstance(reply.data, memoryview)
        self.addresses.append(np.frombuffer(reply.data, np.uint8).ctypes.data)
        self.outgoing += reply.data


def alone(device: Device, limits: Limits = NO_LIMITS) -> Session:
    """The only session on a device."""
    quota = ServerQuota(limits, [device]).new_client()
    return Session([device], V7_0_0.tables, quota)


@pytest.fixture
def session():  # type: ignore[no-untyped-def]
    session = alone(CpuDevice(threads=1, weight_cache=0))
    yield session
    session.close()


def test_few_graphs_are_compiled_at_once() -> None:
    """With hundreds, the HELLO of a new client would wait for the GIL."""
    clients, all_wait, lock = 8, Event(), Lock()
    at_once = most = 0

    class Slow(CpuDevice):
        def compile(self, graph, buffers):  # type: ignore[no-untyped-def]
            nonlocal at_once, most
            with lock:
                at_once += 1
                most = max(most, at_once)
            assert all_wait.wait(20)
            with lock:
                at_once -= 1
            return super().compile(graph, buffers)

    device = Slow(threads=1, weight_cache=0)
    quotas = ServerQuota(NO_LIMITS, [device])
    semaphore = quotas.new_client().compile_semaphore
    graph = m.GraphCompute(graph=struct.pack("<II", 0, 0))

    def compute(number: int) -> None:
        session = Session([device], V7_0_0.tables, quotas.new_client())
        session.handle(graph, Link())
        session.close()

    with ThreadPoolExecutor(clients) as pool:
        results = pool.map(compute, range(clients))
        try:
            wait_until(lambda: semaphore.waiting == clients - COMPILING)
            wait_until(lambda: at_once == COMPILING)
        finally:
            all_wait.set()
        list(results)
    assert most == COMPILING


def allocated(session: Session, size: int) -> Tensor:
    reply = session.handle(m.AllocBuffer(size=size), Link())
    assert isinstance(reply, m.Allocated)
    handle, ne = reply.remote_ptr, (size, 1, 1, 1)
    nb = contiguous_nb(GGMLType.I8, ne)
    return Tensor(1, GGMLType.I8, handle, ne, nb, data=handle)


def test_every_command_but_hello_has_a_handler() -> None:
    handled = {request.command for request in module._HANDLERS}
    assert handled == set(Command) - {Command.HELLO}


def test_data_moves_between_link_and_buffer_without_a_copy(session: Session) -> None:
    tensor, link = allocated(session, 8), Link(b"abc")
    session.handle(m.SetTensor(tensor=tensor, offset=2, size=3), link)
    session.handle(m.GetTensor(tensor=tensor, offset=0, size=8), link)
    assert link.outgoing == b"\0\0abc\0\0\0"
    written, read = link.addresses
    assert written == read + 2


def test_without_a_cache_no_hash_is_known(session: Session) -> None:
    tensor = allocated(session, 8)
    request = m.SetTensorHash(tensor=tensor, offset=0, hash=1)
    assert session.handle(request, Link()) == m.Result(result=0)


def test_session_that_only_asks_has_used_nothing(session: Session) -> None:
    session.handle(m.GetDeviceMemory(), Link())
    assert not session.used
    allocated(session, 8)
    assert session.used


def test_close_gives_back_what_the_client_left() -> None:
    device = CpuDevice(threads=1, weight_cache=0)
    session = alone(device)
    free = device.memory().free
    allocated(session, 1 << 20)
    assert device.memory().free <= free - (1 << 20)
    assert session.close() == 1 << 20
    assert session.close() == 0


@pytest.mark.parametrize(
    "request_",
    [
        m.GetAlignment(device=1),
        m.GraphRecompute(),
        m.FreeBuffer(remote_ptr=5),
        m.BufferClear(remote_ptr=0, value=0),
    ],
    ids=lambda r: type(r).__name__,
)
def test_what_is_not_there_is_refused(session: Session, request_: m.Request) -> None:
    with pytest.raises(RefusedError):
        session.handle(request_, Link())
