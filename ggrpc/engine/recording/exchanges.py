"""The requests of a recording, decoded, each with the reply that it got."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from ggrpc.engine.recording.journal import Closed, Journal, Message, Opened
from ggrpc.engine.wire import messages as m
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import Dialect, Version, dialect_for, spoken
from ggrpc.errors import RecordingError


@dataclass
class Exchange:
    """A request and its reply, decoded when they are asked for.

    Attributes:
        connection: on which connection.
        dialect: the version that was spoken there.
        message: the request as it was kept.
        answer: the reply as it was kept; None where the command has none, or none came.
        answered: False where a reply was due and none came.
    """

    connection: int
    dialect: Dialect
    message: Message
    answer: Message | None = None
    answered: bool = True

    @cached_property
    def request(self) -> m.Request:
        """What the client asked; data is left in `message`.

        Raises:
            RecordingError: the version has no such request.
            RemoteProtocolError: a malformed tensor.
        """
        message = self.message
        layout = self.dialect.requests.get(message.command)
        if layout is None or not layout.holds(message.size):
            raise self._none_such("a", message.size)
        if layout.tail != "graph":
            return cast(m.Request, layout.read(message.head(layout.size), message.size))
        payload = message.payload()
        fields = layout.fields(payload[: layout.size])
        return m.GraphCompute(**fields, graph=payload[layout.size :])

    @cached_property
    def reply(self) -> Any:
        """What the server answered; None where there is no answer.

        Raises:
            RecordingError: the version has no such reply.
        """
        if self.answer is None:
            return None
        layout = self.dialect.replies.get(cast(Command, self.message.command))
        if layout is None or not layout.holds(self.answer.size):
            raise self._none_such("a reply to", self.answer.size)
        return layout.read(self.answer.head(layout.size), self.answer.size)

    @property
    def seconds(self) -> float | None:
        """From the request to its reply; None where there is none."""
        if self.answer is None:
            return None
        return (self.answer.time - self.message.time) / 1e9

    def _none_such(self, what: str, size: int) -> RecordingError:
        return RecordingError(
            f"protocol {self.dialect.version} has no such thing as {what} command "
            f"{self.message.command} of {size} bytes, which is in the recording"
        )


@dataclass
class _Talk:
    """What is known of one connection so far."""

    dialect: Dialect | None = None
    waiting: deque[Message] = field(default_factory=deque)  # requests, in order
    foreign: bool = False  # whether it does not begin with HELLO


def exchanges(journal: Journal) -> Iterator[Exchange | Closed]:
    """Every exchange, in the order in which each was complete, and where each ends.

    Connections that something else opened, a browser for example, are left out.

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
            yield event
        elif talk.foreign or _is_foreign(talk, event):
            talk.foreign = True
        elif event.from_server:
            yield _answered(talk, event, journal)
            yield from _silent(talk)
        else:
            talk.waiting.append(event)
            yield from _silent(talk)
    for talk in talks.values():
        yield from _unanswered(talk)


def _is_foreign(talk: _Talk, message: Message) -> bool:
    """Whether this is the first message of something that is no client of ggml's."""
    begins = talk.dialect is None and not talk.waiting
    return begins and (message.from_server or message.command != Command.HELLO)


def _silent(talk: _Talk) -> Iterator[Exchange]:
    """The requests at the front that get no reply."""
    while talk.waiting and talk.dialect:
        message = talk.waiting[0]
        if talk.dialect.replies.get(cast(Command, message.command)) is not None:
            return
        yield Exchange(message.connection, talk.dialect, talk.waiting.popleft())


def _answered(talk: _Talk, answer: Message, journal: Journal) -> Exchange:
    if not talk.waiting:
        raise RecordingError(
            f"{journal.path}: a reply belongs to no request of connection "
            f"{answer.connection}; the file was damaged, record it anew"
        )
    message = talk.waiting.popleft()
    if talk.dialect is None:
        talk.dialect = _dialect(answer, journal)
    return Exchange(message.connection, talk.dialect, message, answer)


def _unanswered(talk: _Talk) -> Iterator[Exchange]:
    """What was owed an answer when the connection, or the recording, ended."""
    for message in talk.waiting:
        if talk.dialect is not None:
            yield Exchange(message.connection, talk.dialect, message, answered=False)


def _dialect(answer: Message, journal: Journal) -> Dialect:
    version = Version.of(answer.head(len(Version._fields)))
    dialect = dialect_for(version)
    if dialect is None:
        raise RecordingError(
            f"{journal.path} is of a server that spoke protocol {version}; ggrpc "
            f"speaks {spoken()}"
        )
    return dialect
