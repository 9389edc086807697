"""Queries several servers in parallel, and shows their answers.

A server that fails adds one line to stderr and does not affect the other servers. If
there are several servers, the failed one also has a row with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from ggrpc.commands.endpoints import endpoints_of
from ggrpc.commands.environment import Environment
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.listing import Column, Listing, Row
from ggrpc.commands.number_checks import finite
from ggrpc.commands.progress import bar
from ggrpc.commands.tls_options import client_options
from ggrpc.endpoint import Endpoint
from ggrpc.engine.client.client import Client, open_client
from ggrpc.engine.client.options import ClientOptions
from ggrpc.engine.net.deadline import Deadline
from ggrpc.errors import (
    Cancelled,
    ConnectionLost,
    GgrpcError,
    OutOfMemory,
    ProtocolError,
    RefusedError,
    TransportError,
    TransportTimeout,
    VersionMismatch,
)

T = TypeVar("T")

# Shown only if a server is newer than ggrpc, or a fork's.
NOTE = Column("note", "NOTE", wraps=True, is_rare=True)
# Shown only if a server failed: one or two words; stderr has the whole message.
REASON = Column("reason", "REASON", wraps=True, is_rare=True)
REASONS: tuple[tuple[type[GgrpcError], str], ...] = (
    (TransportTimeout, "timeout"),
    (ConnectionLost, "hung up"),
    (TransportError, "unreachable"),
    (VersionMismatch, "other version"),
    (ProtocolError, "other protocol"),
    (RefusedError, "refused"),
    (OutOfMemory, "no memory"),
)

MAX_THREADS = 128  # more than processors, because most threads wait for an answer

Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        max=3600,
        callback=finite,
        help="How long to wait for a server's answer, or for progress.",
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION",
        help="Protocol version to use, such as 7.0.0, instead of detecting it.",
    ),
]
DeviceNumber = Annotated[
    int, typer.Option("--device", metavar="N", min=0, help="Number of the device.")
]
OpTableDate = Annotated[
    str | None,
    typer.Option(
        "--op-table",
        metavar="DATE",
        show_default="the table of its version",
        help="Date of the llama.cpp build that defines the server's op numbers, such "
        "as 2025-07-20.",
    ),
]

# Queries one device of a server; returns its row without endpoint, device and note.
DeviceQuery = Callable[["Client", int], dict[str, Any]]


class Answer(NamedTuple):
    """The outcome of querying one server.

    Attributes:
        endpoint: the server.
        rows: one for each of its devices.
        error: the error if the query failed; else None.
        done: what was done or learned before the failure, as text.
    """

    endpoint: Endpoint
    rows: Sequence[Row] = ()
    error: GgrpcError | None = None
    done: str = ""

    @property
    def code(self) -> ExitCode:
        """The exit code if this were the only server."""
        return code_of(self.error) if self.error else ExitCode.OK

    @property
    def message(self) -> str:
        """The error message, with the endpoint."""
        named = self.error is None or self.error.endpoint
        text = str(self.error) if named else f"{self.endpoint}: {self.error}"
        return f"{text}; {self.done}" if self.done else text

    def failure(self, as_json: bool) -> Row:
        """The row of a server that failed."""
        if not as_json:
            return {"endpoint": str(self.endpoint), "reason": reason_of(self.error)}
        return {
            "endpoint": str(self.endpoint),
            "error": self.message,
            "exit_code": int(self.code),
        }


class Fleet(NamedTuple):
    """The servers to query.

    Attributes:
        endpoints: the arguments of the command; each may name several endpoints. None
            reads them from $GGRPC_ENDPOINTS.
        timeout: the maximum time in seconds for each server.
        protocol: the protocol version; None detects it.
    """

    endpoints: Sequence[str] | None
    timeout: float
    protocol: str | None

    def survey(
        self, environment: Environment, query: DeviceQuery, listing: Listing
    ) -> ExitCode:
        """Query all servers, and show the answers in the order of the endpoints.

        Raises:
            ConfigError: an endpoint or the version is invalid; no server is contacted.
        """
        endpoints = endpoints_of(self.endpoints, environment)
        options = client_options(environment, self.timeout, self.protocol)
        with bar(environment, "servers", len(endpoints), steps=True) as answered:
            answers = all_at_once(_asker(query, options), endpoints, answered)
        return show(environment, answers, listing, len(endpoints))


def _asker(query: DeviceQuery, options: ClientOptions) -> Callable[[Endpoint], Answer]:
    def ask(endpoint: Endpoint) -> Answer:
        deadline = Deadline(options.timeout)
        rows: list[Row] = []
        note = ""
        try:
            with open_client(
                endpoint, options, queries_only=True, deadline=deadline
            ) as client:
                note = client.identity.refusal
                for device in range(client.device_count()):
                    deadline.timeout()  # limits any device count that a server claims
                    first = {"endpoint": str(endpoint), "device": device}
                    last = {"note": client.identity.note or None}
                    rows.append(first | query(client, device) | last)
            if not rows:
                raise RefusedError("this server has no devices")
        except GgrpcError as error:
            return Answer(endpoint, error=error, done=note and f"it {note}")
        return Answer(endpoint, rows)

    return ask


def show(
    environment: Environment, answers: Sequence[Answer], listing: Listing, asked: int
) -> ExitCode:
    """Write the answers to stdout and the errors to stderr.

    Args:
        environment: provides the streams.
        answers: the result of `all_at_once`.
        listing: the form of the output.
        asked: the number of servers; if there are fewer answers, Ctrl-C was pressed.
    """
    rows: list[Row] = []
    for answer in answers:
        rows += answer.rows
        if answer.error and (listing.json or asked > 1):
            rows.append(answer.failure(listing.json))
    listing.show(environment, rows)
    for answer in answers:
        if answer.error:
            environment.fail(answer.error, answer.message)
    if len(answers) < asked:
        error = Cancelled(f"interrupted after {len(answers)} of {asked} servers")
        environment.fail(error)
        return code_of(error)
    return code_of_several([answer.code for answer in answers])


def show_with_verdicts(
    environment: Environment,
    listing: Listing,
    rows: Sequence[Row],
    verdicts: Sequence[Row],
) -> None:
    """Write rows, and then the verdict on each server.

    A single server without rows has no verdict, because stderr has its error.
    """
    listing.show(environment, rows, verdicts if rows or verdicts[1:] else ())


def reason_of(error: Exception | None) -> str:
    """Why a server failed, in a word or two."""
    fitting = (reason for kind, reason in REASONS if isinstance(error, kind))
    return next(fitting, "failed")


def all_at_once(
    ask: Callable[[Endpoint], T],
    endpoints: Sequence[Endpoint],
    answered: Callable[[int], None] = lambda count: None,
) -> list[T]:
    """Query several servers at the same time, in threads.

    Args:
        ask: queries one server.
        endpoints: the servers.
        answered: called with 1 after each server.

    Returns:
        The answers in the order of the endpoints; after Ctrl-C, those received so far.

    Raises:
        KeyboardInterrupt: Ctrl-C came after the last answer.
    """
    done: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()
    todo = iter(enumerate(endpoints))

    def work() -> None:
        for at, endpoint in todo:
            try:
                done.put((at, ask(endpoint)))
            except BaseException as error:
                done.put((at, error))

    answers: dict[int, T] = {}
    try:
        for _ in endpoints[:MAX_THREADS]:
            # Daemon threads, so that Ctrl-C does not wait for a slow server.
            Thread(target=work, daemon=True).start()
        for _ in endpoints:
            at, answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            answers[at] = answer
            answered(1)
    except KeyboardInterrupt:
        if len(answers) == len(endpoints):
            raise  # the caller would continue as after a success
    for _ in todo:  # so that the threads start no further queries
        pass
    return [answers[at] for at in sorted(answers)]
