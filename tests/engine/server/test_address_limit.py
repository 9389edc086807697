from __future__ import annotations

import resource
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ggrpc.engine.client.client import connect
from ggrpc.engine.server import address_limit
from ggrpc.engine.server.address_limit import STACK, clients_with_stacks
from tests.support.clients import HELLO, WELCOME_BYTES, computes, serves
from tests.support.processes import Served

DEVICE_COUNT = b"\x0f" + bytes(8)
FOREVER = resource.RLIM_INFINITY


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Replaces the limits of address space and of stacks."""

    def put(address_space: int, stack: int) -> None:
        soft = {resource.RLIMIT_AS: address_space, resource.RLIMIT_STACK: stack}
        monkeypatch.setattr(
            address_limit.resource, "getrlimit", lambda what: (soft[what], FOREVER)
        )

    return put


@pytest.mark.parametrize(
    ("address_space", "stack", "fitting"),
    [
        (FOREVER, STACK, 100),
        (400 * STACK, STACK, 100),
        (400 * STACK, FOREVER, 100),
        (40 * STACK, STACK, 10),
        (40 * STACK, STACK // 2, 20),
        (40 * STACK, FOREVER, 10),
        (STACK, STACK, 1),
    ],
)
def test_clients_are_limited_by_address_space(  # type: ignore[no-untyped-def]
    limits, caplog, address_space: int, stack: int, fitting: int
) -> None:
    limits(address_space, stack)
    assert clients_with_stacks(100) == fitting
    told = f"{fitting} clients at most: the address space is limited to "
    assert (told in caplog.text) == (fitting < 100)


@pytest.mark.skipif(not shutil.which("prlimit"), reason="needs prlimit of util-linux")
def test_idle_strangers_leave_a_session_its_address_space(tmp_path: Path) -> None:
    """Each of them has sent a second request, so that it has a thread."""
    served = Served(["-d", "cpu"], str(tmp_path), ["prlimit", f"--as={600 << 20}"])
    with connect(served.endpoint, timeout=20) as session, ExitStack() as stack:
        assert computes(session)
        for _ in range(100):
            sock = socket.create_connection(served.endpoint, 20)
            stack.enter_context(sock)
            for sent, size in (HELLO, WELCOME_BYTES), (DEVICE_COUNT, 12):
                sock.sendall(sent)
                assert len(sock.recv(size)) == size
        assert session.allocate(32 << 20)
        assert computes(session)
        assert serves(served.endpoint)
    assert served.stop() == 0
    assert "clients at most" in served.log
    assert "no thread to serve it" not in served.log
