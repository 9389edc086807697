"""The requests of a recording, decoded, each with the reply that it got."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from ggrpc.engine.recording.journal import Closed, Journal, Message, Opened
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import Dialect, Version, dialect_for, spoken
from ggrpc.errors import RecordingError


@dataclass
class Exchange:
    """A request and its reply.

    Attributes:
        connection: on which connection.
        dialect: the version that was spoken there.
        request: what the client asked; data is left in `message`.
        message: the request as it was kept.
        reply: what the server answered; None where the command has no reply, or where
            none came.
        answer: the reply as it was kept.
        answered: False where a reply was due and the server closed instead.
    """

    connection: int
    dialect: Dialect
    request: m.Request
    message: Message
    reply: m.Reply | None = None
    answer: Message | None = None
    answered: bool = True

    @property
    def seconds(self) -> float | None:
        """From the request to its reply; None where there is none."""
        if self.answer is None:
            return None
        return (self.answer.time - self.message.time) / 1e9


@dataclass
class _Talk:
    """What is known of one connection so far."""

    dialect: Dialect | None = None
    waiting: deque[Message] = field(default_factory=deque)  # requests, in order


def exchanges(journal: Journal) -> Iterator[Exchange]:
    """Every exchange, in the order in which each was complete.

    Raises:
        RecordingError: the file is damaged, or of a version that ggrpc does not speak.
    """
    talks: dict[int, _Talk] = {}
    for event in journal.events():
        if isinstance(event, Opened):
            talks[event.connection] = _Talk()
            continue
        talk = talks.get(event.connection)
        if talk is None:
            raise RecordingError(
                f"{journal.path}: connection {event.connection} was never opened"
            )
        if isinstance(event, Closed):
            yield from _unanswered(talks.pop(event.connection))
        elif event.from_server:
            yield _answered(talk, event, journal)
            yield from _silent(talk)
        else:
            talk.waiting.append(event)
            yield from _silent(talk)
    for talk in talks.values():
        yield from _unanswered(talk)


def _silent(talk: _Talk) -> Iterator[Exchange]:
    """The requests at the front that get no reply."""
    while talk.waiting and talk.dialect and not _has_reply(talk.waiting[0], talk):
        message = talk.waiting.popleft()
        yield Exchange(
            message.connection, talk.dialect, _request(message, talk.dialect), message
        )


def _has_reply(message: Message, talk: _Talk) -> bool:
    assert talk.dialect is not None
    return talk.dialect.replies.get(cast(Command, message.command)) is not None


def _answered(talk: _Talk, answer: Message, journal: Journal) -> Exchange:
    if not talk.waiting:
        raise RecordingError(
            f"{journal.path}: a reply belongs to no request of connection "
            f"{answer.connection}; the file was damaged, record it anew"
        )
    message = talk.waiting.popleft()
    if message.command == Command.HELLO:
        talk.dialect = _dialect(answer, journal)
    assert talk.dialect is not None
    layout = talk.dialect.replies[cast(Command, message.command)]
    assert layout is not None
    reply: Any = layout.read(answer.head(layout.size), answer.size)
    request = _request(message, talk.dialect)
    return Exchange(message.connection, talk.dialect, request, message, reply, answer)


def _unanswered(talk: _Talk) -> Iterator[Exchange]:
    """What the server owed an answer when the connection ended."""
    for message in talk.waiting:
        if talk.dialect is not None:
            request = _request(message, talk.dialect)
            yield Exchange(
                message.connection, talk.dialect, request, message, answered=False
            )


def _dialect(answer: Message, journal: Journal) -> Dialect:
    version = Version(*answer.head(3))
    dialect = dialect_for(version)
    if dialect is None:
        raise RecordingError(
            f"{journal.path} is of a server that spoke protocol {version}; ggrpc "
            f"speaks {spoken()}"
        )
    return dialect


def _request(message: Message, dialect: Dialect) -> m.Request:
    layout = dialect.requests.get(message.command)
    if layout is None or not layout.holds(message.size):
        raise RecordingError(
            f"command {message.command} with {message.size} bytes is none of protocol "
            f"{dialect.version}"
        )
    if layout.tail == "graph":
        fields = layout.fields(message.head(layout.size))
        graph = message.payload()[layout.size :]
        return m.GraphCompute(**fields, graph=graph)
    return cast(m.Request, layout.read(message.head(layout.size), message.size))
