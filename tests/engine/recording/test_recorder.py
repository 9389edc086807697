"""What a recorder writes of how connections end."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ggrpc.endpoint import Endpoint
from ggrpc.engine.recording.journal import Closed, Journal
from ggrpc.engine.recording.recorder import RecorderSettings
from tests.support.recordings import recording_here

HERE = "127.0.0.1"


def closed(path: Path, serve: Callable[[socket.socket], object]) -> Closed:
    """How a connection ended whose client says a lot and waits for the end."""
    with socket.create_server((HERE, 0)) as listener:
        server = Endpoint(*listener.getsockname())

        def accept() -> None:
            sock, _ = listener.accept()
            with sock:
                serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        settings = RecorderSettings(Endpoint(HERE, 0), server, path)
        with recording_here(settings) as endpoint:
            with socket.create_connection(endpoint) as client:
                client.settimeout(20)
                client.sendall(bytes(1 << 16))
                if serve is polite:
                    client.shutdown(socket.SHUT_WR)
                try:
                    while client.recv(1 << 16):
                        pass
                except ConnectionError:
                    pass
            thread.join(20)
    with Journal(path) as journal:
        (found,) = [e for e in journal.events() if isinstance(e, Closed)]
    return found


def polite(sock: socket.socket) -> None:
    while sock.recv(1 << 16):
        pass


def closing(sock: socket.socket) -> None:
    sock.recv(10)
    sock.shutdown(socket.SHUT_WR)


def resetting(sock: socket.socket) -> None:
    sock.recv(10)
    linger = struct.pack("ii", 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize(
    ("serve", "by_server"), [(polite, False), (closing, True), (resetting, True)]
)
def test_who_ended_it_is_written(
    tmp_path: Path, serve: Callable[[socket.socket], object], by_server: bool
) -> None:
    assert closed(tmp_path / "graph.bin", serve).by_server is by_server
