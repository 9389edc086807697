"""The handler of one connection: receives requests, runs them, sends replies.

An error ends this connection and no other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import partial

from ggrpc.devices.profile import Profile
from ggrpc.engine.cache.loading import Loader
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.server.comm import Links
from ggrpc.engine.server.quotas import ClientQuota
from ggrpc.engine.server.session import Session
from ggrpc.engine.server.settings import ServerSettings
from ggrpc.engine.server.timeouts import TimedStream
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.connection import ServerConnection
from ggrpc.engine.wire.dialects import Dialect
from ggrpc.engine.wire.forks import lookalikes
from ggrpc.engine.wire.introduction import introduced, purpose_of
from ggrpc.errors import (
    Cancelled,
    ConnectionLost,
    GgrpcError,
    RemoteProtocolError,
    UnsupportedFork,
)
from ggrpc.log_topic import Topic
from ggrpc.units import format_size

# Bytes of a connection's inbox before its first larger request: HELLO fits.
FIRST_CAPACITY = 64

log = logging.getLogger(__name__)


class Step(Enum):
    """What a connection needs after a step."""

    WAIT = "wait"  # for more bytes
    RUN = "run"  # a thread, which calls `run`
    END = "end"  # nothing: it has ended


class Phase(Enum):
    """How far a connection has come."""

    CONNECTED = "connected"  # no HELLO so far
    GREETED = "greeted"  # HELLO was answered; the client has not reacted
    INTRODUCED = "introduced"  # a second HELLO came: the client is ggrpc
    SERVING = "serving"  # a second request came: the client accepts the version
    ENDED = "ended"


_NEXT_PHASES = {
    Phase.CONNECTED: {Phase.GREETED, Phase.ENDED},
    Phase.GREETED: {Phase.INTRODUCED, Phase.SERVING, Phase.ENDED},
    Phase.INTRODUCED: {Phase.SERVING, Phase.ENDED},
    Phase.SERVING: {Phase.ENDED},
    Phase.ENDED: {Phase.ENDED},
}


class ConnectionHandler:
    """Serves one connection.

    Args:
        stream: the connection.
        settings: the server's settings.
        quota: the quota of the client.

    Attributes:
        phase: how far the connection has come.
        last_request_at: when the last request came, on the monotonic clock.
    """

    def __init__(
        self, stream: Stream, settings: ServerSettings, quota: ClientQuota
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._quota = quota
        self._timed_stream = TimedStream(stream, settings.limits)
        self._links = Links(settings.comm, stream.endpoint, quota.memory)
        offer = partial(settings.negotiator.offer, stream.endpoint.host)
        self._connection = ServerConnection(
            offer, settings.limits.message, FIRST_CAPACITY
        )
        self._session: Session | None = None
        self._dialect: Dialect | None = None
        self._profile: Profile | None = None
        self._request: m.Request | None = None  # in progress, for messages
        self._subject = ""  # of the client's certificate, until a log line has named it
        self._count = 0  # of requests, for the log
        self._was_closed = False  # whether the client closed, other than by a reset
        self._has_accepted = (
            False  # whether the negotiator counts the client as working
        )
        self.phase = Phase.CONNECTED
        self.last_request_at = time.monotonic()

    @property
    def holds_memory(self) -> bool:
        """Whether the client has buffers, which it would lose with the connection."""
        return self._session is not None and self._session.holds_memory

    @property
    def has_used_memory(self) -> bool:
        """Whether the client has ever had buffers; one that only asks has not."""
        return self._session is not None and self._session.used

    def step(self) -> Step:
        """Receive the bytes that have arrived, and answer HELLO, without blocking.

        Returns:
            What the connection needs next.
        """
        if self._stream.has_handshake:
            return Step.RUN
        step = Step.END
        with self._logging_errors():
            step = self._step()
        if step is Step.END:
            self.end()
        return step

    def expire(self) -> None:
        """End the connection, because nothing arrived in time."""
        with self._logging_errors():
            self._timed_stream.expire()
        self.end()

    @property
    def step_timeout(self) -> float | None:
        """How many seconds to wait for the next step; None for no limit."""
        limits = self._settings.limits
        is_new = self.phase is Phase.CONNECTED
        return limits.hello_seconds if is_new else limits.idle_seconds

    def run(self) -> None:
        """Serve until the client leaves or breaks a rule, then free its memory."""
        with self._logging_errors():
            self._serve()
        self.end()

    @contextmanager
    def _logging_errors(self) -> Iterator[None]:
        """Log and suppress the error that ends the connection, if there is one."""
        try:
            yield
        except (Cancelled, ConnectionLost) as error:
            self._log(logging.INFO, error)
        except GgrpcError as error:
            what = f"{error}; the connection is closed{self._hint(error)}"
            self._log(logging.WARNING, what, error.command)
        except MemoryError:
            self._log(logging.ERROR, "out of memory; the connection is closed")
        except Exception:
            log.exception(
                "%s: a bug in ggrpc ended this session", self._stream.endpoint
            )

    def finish(self) -> None:
        """Make the running request the last one. Any thread may call this."""
        self._stream.end_input()
        self._links.stop()

    def cut_off(self) -> None:
        """Shut the connection and its links down. Any thread may call this."""
        self._stream.shut()
        self._links.shut()

    def receive_data(self, view: memoryview) -> None:
        """Fill `view` with the data that follows the request."""
        done = self._connection.take(view)
        if done < len(view):
            self._timed_stream.receive_exactly(view[done:])

    def receive_pieces(self, views: Sequence[memoryview]) -> None:
        """Fill one view after the other with the data that follows the request."""
        missing = []
        for view in views:
            done = self._connection.take(view)
            if done < len(view):
                missing.append(view[done:])
        if missing:
            self._timed_stream.receive_pieces(missing)

    def note(self, what: object) -> None:
        """Log why the request in progress gets a negative reply."""
        self._log(logging.INFO, what, topic=Topic.REASONS)

    def send(self, request: m.Request, reply: m.Reply) -> None:
        """Send the reply to a request, if the dialect has one."""
        pieces = self._connection.reply(request, reply)
        if pieces:
            self._timed_stream.send(pieces)

    def send_pieces(self, size: int, batches: Iterable[Sequence[memoryview]]) -> None:
        """Send a reply of `size` bytes of data, in pieces."""
        head = self._connection.data_head(size)
        for batch in batches:
            self._timed_stream.send([head, *batch] if head else batch)
            head = b""

    def _step(self) -> Step:
        connection = self._connection
        count = self._stream.receive_now(connection.space())
        if count is None:
            return Step.WAIT
        if not count:
            self._was_closed = True
            return Step.END
        connection.filled(count)
        if self.phase is not Phase.CONNECTED:
            return Step.RUN
        request = connection.next_request()
        if request is None:
            return Step.WAIT
        # Only HELLO can come first, and its reply fits into the socket's buffer.
        self._handle(request)
        return Step.WAIT if connection.is_empty else Step.RUN

    def _serve(self) -> None:
        self._timed_stream.handshake()
        self._subject = self._stream.subject
        while (request := self._next_request()) is not None:
            self._handle(request)

    def _handle(self, request: m.Request) -> None:
        self._timed_stream.request_received()
        self._request = request
        self._count += 1
        self.last_request_at = time.monotonic()
        reply = self._answer(request)
        if reply is not None:
            self.send(request, reply)

    def _next_request(self) -> m.Request | None:
        """Receive until a request is complete; return None when the client closes."""
        connection = self._connection
        while (request := connection.next_request()) is None:
            self._request = None
            self._quota.messages.resize(connection.inbox_bytes)
            begun = not connection.is_empty
            count = self._timed_stream.receive(connection.space(), begun)
            if not count:
                self._was_closed = True
                return None
            connection.filled(count)
        return request

    def _answer(self, request: m.Request) -> m.Reply | None:
        if isinstance(request, m.Hello):
            return self._greet(request)
        assert self._dialect, "nothing comes before HELLO"
        if self.phase is Phase.GREETED:
            host = self._stream.endpoint.host
            self._settings.negotiator.accepted(host, self._dialect)
            self._has_accepted = True
        if self.phase is not Phase.SERVING:
            self._enter(Phase.SERVING)
        if self._session is None:
            self._session = self._new_session(self._dialect)
        return self._session.handle(request, self)

    def _new_session(self, dialect: Dialect) -> Session:
        table = self._settings.op_table
        tables = (table,) if table else dialect.tables
        loader = Loader(self._settings.cache, dialect.has_cache_flag)
        if self._settings.profile:
            self._profile = Profile()
        return Session(
            self._settings.devices,
            tables,
            self._quota,
            loader,
            self._profile,
            self._links,
        )

    def _greet(self, hello: m.Hello) -> m.Welcome:
        """Answer a client's HELLO, or the second HELLO of a ggrpc client."""
        negotiator, dialect = self._settings.negotiator, self._connection.dialect
        assert dialect is not None, "the connection has called `offer`"
        newest = introduced(hello.caps)
        if self.phase is Phase.CONNECTED:
            self._enter(Phase.GREETED)
        elif self.phase is Phase.GREETED and newest:
            self._enter(Phase.INTRODUCED)
            if purpose := purpose_of(hello.caps):
                self._log(logging.INFO, f"'ggrpc {purpose}' tests this server")
            dialect = negotiator.offer_to_ggrpc(newest, dialect)
        else:
            raise RemoteProtocolError("HELLO came a second time")
        self._dialect = self._connection.dialect = dialect
        log.debug("%s: offered protocol %s", self._stream.endpoint, dialect.version)
        self._timed_stream.greeted()
        return m.Welcome(
            **dialect.version._asdict(),
            padding=negotiator.maker,
            caps=bytes(dialect.hello_size),
        )

    def _enter(self, phase: Phase) -> None:
        assert phase in _NEXT_PHASES[self.phase], f"{self.phase} to {phase}"
        self.phase = phase

    @property
    def _rejected(self) -> bool:
        """Whether the client closed right after the answer to HELLO.

        A reset does not count: a client that gives up before the answer causes one.
        """
        return (
            self.phase is Phase.GREETED
            and self._was_closed
            and self._connection.is_empty
            and not self._stream.was_shut
        )

    def end(self) -> None:
        """End the session and free its memory; only while no thread runs it."""
        rejected = self._rejected
        self._enter(Phase.ENDED)
        self._quota.messages.resize(0)
        try:
            self._close_session(rejected)
        except Exception:
            log.exception("%s: not all memory was freed", self._stream.endpoint)

    def _close_session(self, rejected: bool) -> None:
        if self._dialect is None:
            return
        negotiator, host = self._settings.negotiator, self._stream.endpoint.host
        if rejected:
            seconds = time.monotonic() - self.last_request_at
            negotiator.rejected(host, self._dialect, seconds)
        elif self._has_accepted:
            negotiator.ended(host, self._dialect)
        left = format_size(self._session.close() if self._session else 0)
        # llama.cpp opens several connections that only query. At level INFO, they would
        # hide the sessions that compute.
        level = logging.INFO if self.has_used_memory else logging.DEBUG
        self._request = None
        self._log(level, f"session ended after {self._count} requests, {left} freed")
        if self._profile is not None and self._profile.runs:
            self._log_profile(self._profile)

    def _log_profile(self, profile: Profile) -> None:
        """Log a profile, without a peer, because the log limits the lines per peer."""
        for line in profile.lines():
            log.info("%s: %s", self._stream.endpoint, line, extra={"peer": ""})

    def _hint(self, error: GgrpcError) -> str:
        """The part of a message that names the forks that may explain the error."""
        if self._dialect is None or isinstance(error, UnsupportedFork):
            return ""
        names = " or ".join(fork.name for fork in lookalikes(self._dialect))
        return names and f" (a client of {names}? ggrpc does not serve that fork)"

    def _log(
        self,
        level: int,
        what: object,
        command: str | None = None,
        topic: Topic | None = None,
    ) -> None:
        if command is None and self._request is not None:
            command = self._request.command.name
        subject = f" ({self._subject})" if self._subject else ""
        if log.isEnabledFor(level):
            self._subject = ""
        log.log(
            level,
            "%s%s%s: %s",
            self._stream.endpoint,
            subject,
            f" {command}" if command else "",
            what,
            extra={
                "peer": str(self._stream.endpoint),
                "command": command,
                "topic": topic or self._topic(level),
            },
        )

    def _topic(self, level: int) -> Topic:
        if level < logging.WARNING:
            return Topic.TRAFFIC
        return Topic.STRANGERS if self._session is None else Topic.REASONS
