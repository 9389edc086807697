"""The two sides of a protocol connection, server's and client's, without the socket.

The owner of the socket receives into `space()`, calls `filled(n)`, and asks for the
next message until it gets None. The data of SET_TENSOR and of GET_TENSOR's reply
bypass this file: after one of these messages, the owner calls `take` for the data that
has already arrived, and receives the rest straight into the destination.

Any bytes from the peer result in a message, None (more bytes are needed) or a
RemoteProtocolError. After an error the connection cannot be used any more.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import cast

from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command, name_of
from ggrpc.engine.wire.dialects import Dialect
from ggrpc.engine.wire.forks import fork_sending
from ggrpc.engine.wire.graphs import tensor_bytes
from ggrpc.engine.wire.inbox import CAPACITY, Inbox
from ggrpc.engine.wire.layouts import Layout
from ggrpc.engine.wire.other_protocols import TLS, protocol_of
from ggrpc.engine.wire.reply_rules import ReplyRules
from ggrpc.engine.wire.tensors import TENSOR_BYTES
from ggrpc.errors import LocalProtocolError, RemoteProtocolError, UnsupportedFork

REQUEST_HEAD = struct.Struct("<BQ")  # command, size
REPLY_HEAD = struct.Struct("<Q")  # size
MAX_REQUEST = 256 << 20
MAX_FIRST = 64  # enough to recognize a protocol


class _Side:
    """The state of either side: the inbox, and how much data is yet to be taken."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._data_left = 0

    def space(self) -> memoryview:
        """The buffer to receive the next bytes from the peer into."""
        return self._inbox.space()

    def filled(self, count: int) -> None:
        """Record that `count` bytes were received into `space()`."""
        self._inbox.filled(count)

    @property
    def inbox_bytes(self) -> int:
        """The memory that the inbox uses, in bytes."""
        return self._inbox.capacity

    @property
    def is_empty(self) -> bool:
        """Whether every received byte has been read."""
        return not len(self._inbox)

    @property
    def first_bytes(self) -> bytes:
        """The first unread bytes, to recognize the protocol of the peer.

        After an error, they begin with the message that caused it.
        """
        return bytes(self._inbox.peek(0, min(len(self._inbox), MAX_FIRST)))

    def take(self, view: memoryview) -> int:
        """Start reading data: move the bytes received so far into `view`.

        The owner receives the rest of `view` from the socket itself. The views of all
        calls together are as long as the data of the message.

        Returns:
            The number of bytes of `view` that are filled.
        """
        if len(view) > self._data_left:
            raise LocalProtocolError(f"only {self._data_left} bytes of data are left")
        self._data_left -= len(view)
        return self._inbox.take(view)

    def _has(self, size: int) -> bool:
        if self._data_left:
            raise LocalProtocolError("the data of the last message was not taken")
        if len(self._inbox) >= size:
            return True
        self._inbox.reserve(size)
        return False


class ServerConnection(_Side):
    """The server's side of a connection: decodes requests and encodes replies.

    Args:
        answer: takes the payload size of HELLO and returns the dialect to answer with,
            or raises RemoteProtocolError.
        max_bytes: the largest request to accept in bytes, data not included.
        capacity: bytes of the inbox, which grows with the first larger request.

    Attributes:
        dialect: the dialect of this connection, None before HELLO. Its owner may set
            another one that has the same HELLO.
    """

    def __init__(
        self,
        answer: Callable[[int], Dialect],
        max_bytes: int = MAX_REQUEST,
        capacity: int = CAPACITY,
    ) -> None:
        super().__init__(Inbox(capacity))
        self._max_bytes = max_bytes
        self._answer = answer
        self.dialect: Dialect | None = None

    def next_request(self) -> m.Request | None:
        """The next request, or None if more bytes are needed.

        Raises:
            RemoteProtocolError: the client broke the protocol; the error names the
                command.
        """
        if not self._has(REQUEST_HEAD.size):
            return None
        command, size = self._inbox.unpack(REQUEST_HEAD)
        if self.dialect is None and (other := protocol_of(self.first_bytes)):
            raise RemoteProtocolError(_not_a_client(other))
        try:
            return self._request(command, size)
        except RemoteProtocolError as error:
            error.command = name_of(command)
            raise

    def _request(self, command: int, size: int) -> m.Request | None:
        dialect = self._dialect(command, size)
        layout = dialect.requests.get(command)
        if layout is None:
            raise RemoteProtocolError(
                f"protocol {dialect.version} has no {name_of(command)}; --protocol "
                "chooses another version"
            )
        if not layout.holds(size):
            _check_tensor_bytes(dialect, layout.tensor_bytes(size))
            what = f"a {name_of(command)} request of protocol {dialect.version}"
            raise _wrong_size(layout, size, what)
        streamed = layout.tail == "data"
        whole = REQUEST_HEAD.size + (layout.size if streamed else size)
        if whole > self._max_bytes:
            raise RemoteProtocolError(
                f"a {name_of(command)} request of {size} bytes exceeds --max-message "
                f"({self._max_bytes})"
            )
        if not self._has(whole):
            return None
        payload = self._inbox.peek(REQUEST_HEAD.size, whole)
        request = self._read(dialect, layout, payload, size)
        self._inbox.skip(whole)
        self.dialect = dialect
        return request

    def reply(self, request: m.Request, reply: m.Reply) -> list[m.Bytes]:
        """Encode a reply; an empty list if the command has no reply in this dialect."""
        assert self.dialect is not None, "there is no request before HELLO"
        layout = self.dialect.replies[request.command]
        return [] if layout is None else _framed(layout, reply)

    def data_head(self, size: int) -> bytes:
        """The bytes that precede a reply that consists of `size` bytes of data."""
        return REPLY_HEAD.pack(size)

    def _dialect(self, command: int, size: int) -> Dialect:
        if self.dialect is not None:
            return self.dialect
        if command != Command.HELLO:
            raise RemoteProtocolError(f"{name_of(command)} came before HELLO")
        return self._answer(size)

    def _read(
        self, dialect: Dialect, layout: Layout, payload: memoryview, size: int
    ) -> m.Request:
        if layout.tail == "graph":
            fields = layout.fields(bytes(payload[: layout.size]))
            graph = bytes(payload[layout.size :])
            _check_tensor_bytes(dialect, tensor_bytes(graph))
            return m.GraphCompute(**fields, graph=graph)
        request = cast(m.Request, layout.read(bytes(payload), size))
        if layout.tail:
            self._data_left = size - layout.size
        if isinstance(request, m.SetTensor) and request.size > request.tensor.nbytes:
            tensor = request.tensor
            size_there = TENSOR_BYTES + request.size - tensor.packed_bytes
            _check_tensor_bytes(dialect, size_there)
        return request


class ClientConnection(_Side):
    """The client's side of a connection: encodes requests and decodes replies.

    Replies arrive in the order of the requests.

    Args:
        dialect: the dialect to use.
    """

    def __init__(self, dialect: Dialect) -> None:
        super().__init__(Inbox())
        self.dialect = dialect
        self._awaited: deque[tuple[m.Request, Layout]] = deque()
        self._rules = ReplyRules()

    @property
    def awaits_reply(self) -> bool:
        """Whether a request has not been answered."""
        return bool(self._awaited)

    def request(self, request: m.Request) -> list[m.Bytes]:
        """Encode a request as a list of buffers; data is not copied.

        If SET_TENSOR has no data, the owner of the socket sends `size` bytes after it.

        Raises:
            LocalProtocolError: the dialect has no such command, or a value does not
                fit its field.
        """
        layout = self.dialect.requests.get(request.command.number)
        if layout is None or request.command not in self.dialect.commands:
            raise LocalProtocolError(
                f"protocol {self.dialect.version} has no {request.command.name}"
            )
        head, *rest = _framed(layout, request)
        reply = self.dialect.replies[request.command]
        if reply is not None:
            self._awaited.append((request, reply))
        self._rules.sent(request)
        return [bytes([request.command.number]) + head, *rest]

    def next_reply(self) -> m.Reply | None:
        """The reply to the oldest pending request, or None if more bytes are needed.

        Raises:
            RemoteProtocolError: the server sent something else, or a reply that cannot
                be true.
        """
        request, layout = self._awaited[0]
        command = request.command
        if not self._has(REPLY_HEAD.size):
            return None
        (size,) = self._inbox.unpack(REPLY_HEAD)
        if command is Command.HELLO:
            layout = self.dialect.hello_replies.get(size, layout)
        if not layout.holds(size):
            what = f"the reply to {command.name} in protocol {self.dialect.version}"
            if command is Command.HELLO:
                what = f"the peer is not a ggml RPC server of a known version: {what}"
            raise _wrong_size(layout, size, what)
        whole = REPLY_HEAD.size + layout.size
        if not self._has(whole):
            return None
        if layout.tail:
            self._data_left = size - layout.size
        payload = bytes(self._inbox.peek(REPLY_HEAD.size, whole))
        reply = cast(m.Reply, layout.read(payload, size))
        self._rules.check(request, reply)
        self._inbox.skip(whole)
        self._awaited.popleft()
        return reply

    def check_silence(self, request: m.Request) -> None:
        """Check that no bytes have arrived after the last reply.

        Args:
            request: the last request, for the message.

        Raises:
            RemoteProtocolError: bytes have arrived, which would be taken for a later
                reply.
        """
        if not self._awaited and not self.is_empty:
            raise RemoteProtocolError(
                f"{len(self._inbox)} bytes came after {request.command.name} that no "
                "request asked for; is it a ggml RPC server?"
            )


def _not_a_client(protocol: str) -> str:
    advice = "it is not a ggml RPC client"
    if protocol == TLS:
        advice = "start this server with --tls-cert, or the client without --tls"
    return f"the client speaks {protocol}: {advice}"


def _check_tensor_bytes(dialect: Dialect, size: float) -> None:
    """Reject tensors of a size that only a fork sends.

    Raises:
        UnsupportedFork: a fork sends tensors of this size.
    """
    fork = fork_sending(dialect, size)
    if fork:
        raise UnsupportedFork(
            f"a tensor has {size:.0f} bytes, so the client is {fork.name}, "
            f"whose {fork.own} are its own: run {fork.name}'s server for it, or use "
            "llama.cpp"
        )


def _wrong_size(layout: Layout, size: int, what: str) -> RemoteProtocolError:
    right = f"{layout.size} to {layout.max_size}" if layout.tail else layout.size
    return RemoteProtocolError(
        f"{what} has {size} bytes instead of {right}; --protocol chooses another "
        "version"
    )


def _framed(layout: Layout, message: m.Request | m.Reply) -> list[m.Bytes]:
    """The size and the fields in one buffer, and the tail uncopied."""
    fields = layout.write(message)
    if layout.tail is None:
        return [REPLY_HEAD.pack(len(fields)) + fields]
    tail = getattr(message, layout.tail)
    if tail is None and isinstance(message, m.SetTensor):
        return [REPLY_HEAD.pack(len(fields) + message.size) + fields]
    if tail is None:
        raise LocalProtocolError(f"{type(message).__name__} has no {layout.tail}")
    return [REPLY_HEAD.pack(len(fields) + len(tail)) + fields, tail]
