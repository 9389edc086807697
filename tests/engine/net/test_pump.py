"""When a pump says which side has ended a connection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.net.pump import pump
from ggrpc.engine.net.transport import Stream
from tests.support.clients import reset


@contextmanager
def connection() -> Iterator[tuple[Stream, socket.socket]]:
    """A stream, and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        accepted, address = listener.accept()
    stream = Stream(accepted, Endpoint(*address))
    with peer:
        yield stream, peer
    stream.close()


def has_noticed(sock: socket.socket) -> bool:
    """Whether the end of a connection, in good order or not, has arrived here."""
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def shut_down(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("end", [shut_down, reset])
@pytest.mark.parametrize("by_other", [False, True])
def test_end_is_reported_before_the_opposite_side_can_notice(
    end: Callable[[socket.socket], object], by_other: bool
) -> None:
    reports = []
    with connection() as (one, first), connection() as (other, second):
        ender, opposite = (second, first) if by_other else (first, second)

        def on_end(by_other: bool) -> None:
            reports.append((by_other, has_noticed(opposite)))
            opposite.shutdown(socket.SHUT_WR)  # which ends the pump too

        end(ender)
        pump(one, other, on_end=on_end)
        assert has_noticed(opposite)
    assert reports == [(by_other, False)]
