"""The server: listens, and gives each connection a thread and a session of its own.

A session's failure, whatever its kind, ends that session and nothing else.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType

from ggrpc.devices.device import Device
from ggrpc.endpoint import Endpoint
from ggrpc.engine.offers import LearnedOffers, Offers
from ggrpc.engine.session import Session
from ggrpc.engine.transport import Stream, accept, endpoint_of, listen
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.connection import ServerConnection
from ggrpc.engine.wire.dialects import Dialect
from ggrpc.engine.wire.op_tables import OpTable
from ggrpc.errors import ConnectionLost, GgrpcError, TransportError
from ggrpc.units import format_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerSettings:
    """What can be chosen about a server.

    Attributes:
        endpoint: where to listen; port 0 takes a free one.
        devices: what to serve, in the order of their numbers on the wire.
        offers: what HELLO is answered with.
        op_table: how clients number ops, None to find it out by what fits.
    """

    endpoint: Endpoint
    devices: Sequence[Device]
    offers: Offers = field(default_factory=LearnedOffers)
    op_table: OpTable | None = None


class Server:
    """A running server. Listens from construction on; a context manager.

    Raises:
        BindError: the address cannot be had.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._listeners = listen(settings.endpoint)
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()  # guards the two below
        self._stopping = False
        self._clients: dict[threading.Thread, Stream] = {}

    @property
    def endpoints(self) -> list[Endpoint]:
        """The addresses that it listens on."""
        return [endpoint_of(sock) for sock in self._listeners]

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._close()

    def run(self) -> None:
        """Accept clients until `stop` is called; then end their sessions."""
        with selectors.DefaultSelector() as selector:
            for sock in (*self._listeners, self._woken):
                selector.register(sock, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select():
                    if key.fileobj is not self._woken:
                        self._accept(key.fileobj)  # type: ignore[arg-type]
        self._close()

    def stop(self) -> None:
        """Make `run` return; from any thread, or a signal's handler."""
        self._stopping = True
        try:
            self._wake.send(b"x")
        except OSError:
            pass  # closed: it has stopped

    def _accept(self, listener: socket.socket) -> None:
        try:
            stream = accept(listener)
        except TransportError as error:
            log.error("%s; raise the limit of open files (ulimit -n)", error)
            return
        if stream is None:
            return
        thread = threading.Thread(
            target=self._serve, args=(stream,), name=str(stream.endpoint)
        )
        # Registered before it starts, so that a stop in between finds it.
        with self._lock:
            self._clients[thread] = stream
        try:
            thread.start()
        except RuntimeError as error:
            log.error("%s: no thread to serve it: %s", stream.endpoint, error)
            self._forget(thread)

    def _serve(self, stream: Stream) -> None:
        try:
            Conversation(stream, self._settings).run()
        finally:
            self._forget(threading.current_thread())

    def _forget(self, thread: threading.Thread) -> None:
        with self._lock:
            self._clients.pop(thread).close()

    def _close(self) -> None:
        for sock in (*self._listeners, self._wake, self._woken):
            sock.close()
        with self._lock:
            clients = dict(self._clients)
        for stream in clients.values():
            stream.shut()
        for thread in clients:
            thread.join()


class Conversation:
    """One connection: receives, lets the session do it, replies."""

    def __init__(self, stream: Stream, settings: ServerSettings) -> None:
        self._stream = stream
        self._settings = settings
        offer = partial(settings.offers.offer, stream.endpoint.host)
        self._connection = ServerConnection(offer)
        self._session: Session | None = None
        self._dialect: Dialect | None = None
        self._request: m.Request | None = None
        self._count = 0

    def run(self) -> None:
        """Serve until the client leaves or breaks a rule, then free what it had."""
        try:
            self._serve()
        except ConnectionLost as error:
            self._log(logging.INFO, error)
        except GgrpcError as error:
            caveat = self._dialect.caveat if self._dialect else ""
            what = f"{error}; the connection is closed"
            self._log(logging.WARNING, f"{what} ({caveat})" if caveat else what)
        except MemoryError:
            self._log(logging.ERROR, "out of memory; the connection is closed")
        except Exception:
            log.exception(
                "%s: a bug in ggrpc ended this session", self._stream.endpoint
            )
        finally:
            self._close_session()

    def receive_data(self, view: memoryview) -> None:
        """Fill `view` with the data that follows the request."""
        done = self._connection.take(view)
        if done < len(view):
            self._stream.receive_exactly(view[done:])

    def send(self, request: m.Request, reply: m.Reply) -> None:
        """Send a reply, where the dialect has one."""
        pieces = self._connection.reply(request, reply)
        if pieces:
            self._stream.send(pieces)

    def _serve(self) -> None:
        connection, stream = self._connection, self._stream
        while True:
            request = connection.next_request()
            if request is None:
                count = stream.receive_soon(connection.space())
                if not count:
                    return
                connection.filled(count)
                continue
            self._request = request
            self._count += 1
            reply = self._answer(request)
            if reply is not None:
                self.send(request, reply)

    def _answer(self, request: m.Request) -> m.Reply | None:
        if self._session is None or self._dialect is None:
            return self._greet()
        if self._count == 2:
            offers, host = self._settings.offers, self._stream.endpoint.host
            offers.went_on(host, self._dialect)
        return self._session.handle(request, self)

    def _greet(self) -> m.Welcome:
        dialect = self._dialect = self._connection.dialect
        assert dialect is not None, "the first request is HELLO, which settles it"
        log.debug("%s: offered protocol %s", self._stream.endpoint, dialect.version)
        table = self._settings.op_table
        tables = (table,) if table else dialect.tables
        self._session = Session(self._settings.devices, tables)
        return m.Welcome(**dialect.version._asdict(), caps=bytes(dialect.hello_size))

    @property
    def _hung_up(self) -> bool:
        """Whether the client left after HELLO, with not a byte more."""
        return (
            self._count == 1 and self._connection.is_empty and not self._stream.was_shut
        )

    def _close_session(self) -> None:
        if self._session is None or self._dialect is None:
            return
        if self._hung_up:
            offers, host = self._settings.offers, self._stream.endpoint.host
            offers.hung_up(host, self._dialect)
        left = format_size(self._session.close())
        # llama.cpp connects several times just to ask something: not worth a line.
        level = logging.INFO if self._session.used else logging.DEBUG
        self._request = None
        self._log(level, f"session ended after {self._count} requests, {left} freed")

    def _log(self, level: int, what: object) -> None:
        command = self._request.command.name if self._request else None
        log.log(
            level,
            "%s%s: %s",
            self._stream.endpoint,
            f" {command}" if command else "",
            what,
            extra={"peer": str(self._stream.endpoint), "command": command},
        )
