"""The recorder stores which side ended a connection."""

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
    """Record a client that sends much data; returns the event of its end."""
    with socket.create_server((HERE, 0)) as listener:
        server = Endpoint(*listener.getsockname())

        def accept() -> None:
            while True:
                sock, _ = listener.accept()
                with sock:
                    if sock.recv(
                        1, socket.MSG_PEEK
                    ):  # not the recorder's own check of the server
                        serve(sock)
                        return

        thread = threading.Thread(target=accept)
        thread.start()
        settings = RecorderSettings(Endpoint(HERE, 0), server, path)
        with recording_here(settings) as endpoint:
            with socket.create_connection(endpoint) as client:
                client.settimeout(20)
                client.sendall(bytes(1 << 16))
                if serve is read_to_the_end:
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


def read_to_the_end(sock: socket.socket) -> None:
    while sock.recv(1 << 16):
        pass


def shut_down(sock: socket.socket) -> None:
    sock.recv(10)
    sock.shutdown(socket.SHUT_WR)


def reset(sock: socket.socket) -> None:
    sock.recv(10)
    linger = struct.pack("ii", 1, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize(
    ("serve", "by_server"), [(read_to_the_end, False), (shut_down, True), (reset, True)]
)
def test_side_that_closed_first_is_recorded(
    tmp_path: Path, serve: Callable[[socket.socket], object], by_server: bool
) -> None:
    assert closed(tmp_path / "graph.bin", serve).by_server is by_server
