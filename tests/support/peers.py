"""Peers that do not reply as a ggml RPC server does."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator

from ggrpc.endpoint import Endpoint

IO_SECONDS = 60
DRIP_SECONDS = 0.1  # between two bytes
WELCOME = (28).to_bytes(8, "little") + bytes([8, 0, 0]) + bytes(25)

Talk = Callable[[socket.socket], object]


@contextlib.contextmanager
def peer(talk: Talk) -> Iterator[Endpoint]:
    """A peer that handles each connection in a thread, and then closes it."""
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        connection.settimeout(IO_SECONDS)
        with connection, contextlib.suppress(OSError):
            talk(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                thread = threading.Thread(target=serve, args=(connection,))
                threads.append(thread)
                thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield Endpoint(*listener.getsockname())
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            threads[0].join(IO_SECONDS)
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(IO_SECONDS)
                assert not thread.is_alive()


def until_closed(connection: socket.socket) -> None:
    """Say nothing until the client leaves."""
    while connection.recv(1 << 16):
        pass


def drip(connection: socket.socket) -> None:
    """Send a reply slowly, but with no byte later than the timeout."""
    for byte in WELCOME * 100:
        connection.sendall(bytes([byte]))
        time.sleep(DRIP_SECONDS)


@contextlib.contextmanager
def http_server(default_version: str = "HTTP/0.9") -> Iterator[Endpoint]:
    """A server of HTTP.

    Args:
        default_version: what it takes a request for that names no version.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        default_request_version = default_version

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Endpoint("127.0.0.1", server.server_port)
        finally:
            server.shutdown()
            thread.join()
