"""Pairs each request of a recording with its reply, and decodes both."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from ggrpc.engine.recording.chunk_file import damaged
from ggrpc.engine.recording.journal import Closed, Journal, Message, Opened
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command, name_of
from ggrpc.engine.wire.dialects import Dialect, Version, supported_versions
from ggrpc.engine.wire.identity import identify
from ggrpc.engine.wire.layouts import Layout
from ggrpc.errors import RecordingError


@dataclass
class Exchange:
    """A request and its reply, decoded on first use.

    Attributes:
        connection: the number of the connection.
        dialect: the dialect of the connection.
        message: the recorded request.
        answer: the recorded reply; None if the command has none, or none arrived.
        answered: False if a reply was expected but none arrived.
    """

    connection: int
    dialect: Dialect
    message: Message
    answer: Message | None = None
    answered: bool = True

    @property
    def command(self) -> Command | None:
        """The command of the request; None if the version does not have its number."""
        return self.dialect.command(self.message.command)

    @property
    def name(self) -> str:
        """The name of the command."""
        command = self.command
        return name_of(self.message.command if command is None else command)

    @cached_property
    def request(self) -> m.Request:
        """The decoded request; its data stays in `message`.

        Raises:
            RecordingError: the version does not have this request.
            RemoteProtocolError: a tensor is malformed.
        """
        message = self.message
        layout = self.dialect.requests.get(message.command)
        if layout is None or not layout.holds(message.size):
            raise self._unknown("a", message.size)
        if layout.tail != "graph":
            return cast(m.Request, layout.read(message.head(layout.size), message.size))
        payload = message.payload()
        fields = layout.fields(payload[: layout.size])
        return m.GraphCompute(**fields, graph=payload[layout.size :])

    @cached_property
    def reply(self) -> Any:
        """The decoded reply, or None if there is none.

        Raises:
            RecordingError: the version does not have this reply.
        """
        if self.answer is None:
            return None
        layout = _reply_layout(self.dialect, self.message)
        if layout is None or not layout.holds(self.answer.size):
            raise self._unknown("a reply to", self.answer.size)
        return layout.read(self.answer.head(layout.size), self.answer.size)

    def data(self) -> Iterator[bytes]:
        """The data that follows the fields of the request, piece by piece.

        Raises:
            RecordingError: a checksum is wrong.
        """
        layout = self.dialect.requests[self.message.command]
        return self.message.tail(layout.size)

    @property
    def seconds(self) -> float | None:
        """The time from the request to its reply; None if there is no reply."""
        if self.answer is None:
            return None
        return (self.answer.time - self.message.time) / 1e9

    def _unknown(self, what: str, size: int) -> RecordingError:
        return damaged(
            f"the recording contains {what} command {self.message.command} of {size} "
            f"bytes, which protocol {self.dialect.version} does not have"
        )


@dataclass
class _Connection:
    """The state of one connection while the recording is read."""

    dialect: Dialect | None = None
    waiting: deque[Message] = field(default_factory=deque)  # requests, in order
    foreign: bool = False  # whether the client does not speak ggml RPC


def exchanges(journal: Journal) -> Iterator[Exchange | Closed]:
    """Every exchange, in the order of completion, and the end of each connection.

    Connections of other clients, such as a browser, are left out.

    Raises:
        RecordingError: the file is damaged, or its version is not supported.
    """
    connections: dict[int, _Connection] = {}
    for event in journal.events():
        if isinstance(event, Opened):
            connections[event.connection] = _Connection()
            continue
        state = connections.get(event.connection)
        if state is None:
            raise damaged(
                f"{journal.path}: connection {event.connection} was never opened"
            )
        if isinstance(event, Closed):
            yield from _unanswered(connections.pop(event.connection))
            yield event
        elif state.foreign or _is_foreign(state, event):
            state.foreign = True
        elif event.from_server:
            yield _answered(state, event, journal)
            yield from _without_reply(state)
        else:
            state.waiting.append(event)
            yield from _without_reply(state)
    for state in connections.values():
        yield from _unanswered(state)


def _is_foreign(state: _Connection, message: Message) -> bool:
    """Whether this is the first message of a client that does not speak ggml RPC."""
    begins = state.dialect is None and not state.waiting
    return begins and (message.from_server or message.command != Command.HELLO)


def _reply_layout(dialect: Dialect, message: Message) -> Layout | None:
    """The layout of the reply to a request; None if it has none."""
    command = dialect.command(message.command)
    return None if command is None else dialect.replies[command]


def _without_reply(state: _Connection) -> Iterator[Exchange]:
    """The oldest pending requests, up to the first one that expects a reply."""
    while state.waiting and state.dialect:
        message = state.waiting[0]
        if _reply_layout(state.dialect, message) is not None:
            return
        yield Exchange(message.connection, state.dialect, state.waiting.popleft())


def _answered(state: _Connection, answer: Message, journal: Journal) -> Exchange:
    """The oldest pending request, with its reply."""
    if not state.waiting:
        raise damaged(
            f"{journal.path}: a reply on connection {answer.connection} has no request"
        )
    message = state.waiting.popleft()
    # ggrpc's client sends HELLO twice, and the second reply counts.
    if state.dialect is None or message.command == Command.HELLO:
        state.dialect = _dialect(answer, journal)
    return Exchange(message.connection, state.dialect, message, answer)


def _unanswered(state: _Connection) -> Iterator[Exchange]:
    """The requests without a reply when the connection, or the recording, ended."""
    for message in state.waiting:
        if state.dialect is not None:
            yield Exchange(message.connection, state.dialect, message, answered=False)


def _dialect(answer: Message, journal: Journal) -> Dialect:
    """The dialect that the reply to HELLO announces."""
    version = Version.of(answer.head(len(Version._fields)))
    identity = identify(version, answer.size)
    if identity.dialect is None or identity.refusal:
        name = f" ({identity.name})" if identity.name else ""
        raise RecordingError(
            f"{journal.path} was recorded from a server of protocol {version}{name}, "
            f"which ggrpc does not support; it supports {supported_versions()}"
        )
    return identity.dialect
