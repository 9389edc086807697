"""A TCP proxy on loopback that counts the bytes that clients send."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from ggrpc.endpoint import Endpoint

PIECE = 1 << 20


class CountingProxy:
    """Forwards connections to a server.

    Attributes:
        endpoint: the address that it listens on.
        sent: the number of bytes that clients have sent.
    """

    def __init__(self, server: Endpoint) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(*self._listener.getsockname())
        self.sent = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(20)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            for pair in (client, server, True), (server, client, False):
                thread = threading.Thread(target=self._pump, args=pair, daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE):
                sink.sendall(data)
                if counts:
                    self.sent += len(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if not counts:  # the server has closed, so both directions end
            for sock in source, sink:
                sock.close()


@contextlib.contextmanager
def counting(server: Endpoint) -> Iterator[CountingProxy]:
    """Run a proxy in front of a server."""
    proxy = CountingProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
