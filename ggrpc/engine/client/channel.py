"""Sends requests on one connection and receives their replies, within time limits.

Some requests have no reply. A server that refuses one closes the connection, so the
next request that has a reply raises the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TypeVar, cast

from ggrpc.closable import Closable
from ggrpc.engine.client import failures
from ggrpc.engine.net.deadline import (
    NEVER,
    Deadline,
    IdleTimeout,
    SharedTimeout,
    TimeLimit,
)
from ggrpc.engine.net.transport import Stream
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.connection import ClientConnection
from ggrpc.engine.wire.dialects import Dialect
from ggrpc.errors import ConnectionLost, GgrpcError, TransportError, TransportTimeout

R = TypeVar("R", bound=m.Reply)

# Requests that move the data of a tensor, which may take longer than the timeout.
BULK = (m.SetTensor, m.GetTensor, m.SetTensor2D, m.GetTensor2D)
# Requests whose time depends on the client: each of them restarts a shared timeout.
GRAPHS = (m.GraphCompute, m.GraphRecompute)
# The part of the timeout that is reserved for `_send_line_end` and its answer.
LINE_PROBE_SECONDS = 0.2


class Channel(Closable):
    """The requests on one connection, one at a time.

    Attributes:
        endpoint: the server.
        dialect: the protocol spoken.
        timeout: the maximum time in seconds for each request; None for no limit.
        deadline: the limit for all requests together; NEVER applies the timeout to each
            request, or a shared one to all: see `share_timeout`.
        unanswered: the commands that the server did not answer; not sent again.
    """

    def __init__(self, stream: Stream, dialect: Dialect, timeout: float | None) -> None:
        self.endpoint = stream.endpoint
        self.dialect = dialect
        self.timeout = timeout
        self.deadline = NEVER
        self.unanswered = failures.UnansweredCommands()
        self._stream = stream
        self._connection = ClientConnection(dialect)
        self._lock = Lock()  # held from a request to the end of its reply
        self._cancelled = False
        self._answers = 0  # received within the deadline
        self._last_silent: Command | None = None  # the last request that has no reply
        self._shared: SharedTimeout | None = None

    def close(self) -> None:
        """End the session, from any thread; the server frees its buffers."""
        self.cancel()
        with self._lock:
            if self._connection.awaits_reply:
                self._stream.reset()
            else:
                self._stream.close()

    def cancel(self) -> None:
        """End the connection, from any thread.

        A call that waits, and every later one, raises `Cancelled`.
        """
        self._cancelled = True
        self._stream.interrupt()

    def share_timeout(self) -> None:
        """Apply the timeout, from now on, to the time that all requests take together.

        Replies and the data of tensors extend it, see `SharedTimeout`. A graph restarts
        it.
        """
        self._shared, self._answers = SharedTimeout(self.timeout), 1  # HELLO's answer

    def _send(self, request: m.Request) -> None:
        """Send a request whose reply, if there is one, is empty."""
        if self.dialect.replies.get(request.command) is None:
            with self._round_trip(request):
                self._last_silent = request.command
        else:
            self._ask(request, m.Done)

    def _ask(self, request: m.Request, kind: type[R]) -> R:
        with self._round_trip(request) as limit:
            return self._receive(kind, request, limit)

    @contextmanager
    def _round_trip(self, request: m.Request) -> Iterator[TimeLimit]:
        """Send a request, and keep other threads out until the block has its reply.

        A failure ends the connection, because a late reply would be taken for the
        reply to the next request.
        """
        with self._lock:
            if self._cancelled:
                raise failures.cancelled(self.endpoint, request.command)
            if request.command in self.unanswered:
                raise failures.not_asked(self.endpoint, request.command)
            pieces = self._connection.request(request)
            limit = self._time_limit(request)
            try:
                self._stream.send(pieces, limit)
                yield limit
                self._connection.check_silence(request)
                if self._shared:
                    self._shared.pause()
            except ConnectionLost as error:
                self._stream.reset()
                if self._cancelled:
                    raise failures.cancelled(self.endpoint, request.command) from None
                raise self._failed(request).explained(error) from error
            except GgrpcError as error:
                if self._cancelled and isinstance(error, TransportError):
                    raise failures.cancelled(self.endpoint, request.command) from None
                if isinstance(error, TransportTimeout):
                    self.unanswered.add(request.command, self._last_silent)
                    if not self._answers:
                        self._send_line_end()
                self.abort()
                raise self._failed(request).explained(error) from error
            except BaseException:
                self.abort()
                raise

    def _failed(self, request: m.Request) -> failures.FailedRequest:
        return failures.FailedRequest(
            self.endpoint,
            request.command,
            self.dialect.replies.get(request.command) is not None,
            self._last_silent,
            self.timeout,
            None if self._answers else self._connection.first_bytes,
            self._answers if self._shared or self.deadline is not NEVER else 0,
        )

    def _send_line_end(self) -> None:
        """Send the end of a line, so that an HTTP or SMTP server shows its protocol.

        The connection is closed afterwards. A ggml RPC server takes these bytes for the
        start of a request that never arrives.
        """
        limit = Deadline(LINE_PROBE_SECONDS)
        with suppress(TransportError):
            self._stream.send([b"\r\n\r\n"], limit)
            count = self._stream.receive(self._connection.space(), limit)
            self._connection.filled(count)

    def abort(self) -> None:
        """End the connection with a reset; only for the thread that uses it."""
        self._cancelled = True
        self._stream.reset()

    def _time_limit(self, request: m.Request) -> TimeLimit:
        if self.deadline is not NEVER:
            return self.deadline
        if self._shared:
            is_graph = isinstance(request, GRAPHS)
            if is_graph:
                self._answers = 1
            self._shared.resume(renewed=is_graph)
            return self._shared
        return (IdleTimeout if isinstance(request, BULK) else Deadline)(self.timeout)

    def _receive(self, kind: type[R], request: m.Request, limit: TimeLimit) -> R:
        while (reply := self._connection.next_reply()) is None:
            count = self._stream.receive(self._connection.space(), limit)
            if not count:
                raise ConnectionLost("the connection ended")
            self._connection.filled(count)
        self._last_silent = None
        self._answers += 1
        if self._shared:
            self._shared.answered()
        return cast(R, reply)
