"""Asks several servers the same at once, and shows what each of them answers.

A server that fails costs one line on stderr, never the answers of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from ggrpc.commands.endpoints import endpoints_of
from ggrpc.commands.environment import Environment
from ggrpc.commands.exit_codes import ExitCode, code_of, code_of_several
from ggrpc.commands.listing import Listing, Row
from ggrpc.endpoint import Endpoint
from ggrpc.errors import GgrpcError, RefusedError

if TYPE_CHECKING:
    from ggrpc.engine.client.client import Client

T = TypeVar("T")

AT_ONCE = 128  # threads; most of the time each of them waits

Timeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", min=0, max=3600, help="How long to wait for an answer."
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        metavar="VERSION",
        help="Speak this version, such as 7.0.0, instead of finding out which.",
    ),
]
DeviceNumber = Annotated[
    int, typer.Option("--device", metavar="N", min=0, help="The number of the device.")
]
OpTableDate = Annotated[
    str | None,
    typer.Option(
        "--op-table",
        metavar="DATE",
        show_default="what its version says",
        help="The day of the server's op numbers, such as 2025-07-20.",
    ),
]

# What a command reports of one device of a server: its row without the first two keys.
Look = Callable[["Client", int], dict[str, Any]]


class Answer(NamedTuple):
    """What became of one server's questioning.

    Attributes:
        endpoint: the server.
        rows: one for each of its devices.
        error: why there are none, else None.
        done: what was done before that, in words.
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
        """What went wrong, and where."""
        named = self.error is None or self.error.endpoint
        text = str(self.error) if named else f"{self.endpoint}: {self.error}"
        return f"{text}; {self.done}" if self.done else text

    @property
    def failure(self) -> Row:
        """The row that stands for a server that failed."""
        return {
            "endpoint": str(self.endpoint),
            "error": self.message,
            "exit_code": int(self.code),
        }


class Fleet(NamedTuple):
    """The servers to ask.

    Attributes:
        endpoints: as the operator typed them; each may be several. None for those of
            the environment.
        timeout: seconds to wait for each.
        protocol: the version to speak, None to find it out.
    """

    endpoints: Sequence[str] | None
    timeout: float
    protocol: str | None

    def survey(
        self, environment: Environment, look: Look, listing: Listing
    ) -> ExitCode:
        """Ask all of them, and show the answers in the order of the endpoints.

        Raises:
            ConfigError: an endpoint or the version makes no sense; nobody is asked.
        """
        endpoints = endpoints_of(self.endpoints, environment)
        answers = all_at_once(self._asker(look), endpoints)
        return show(environment, answers, listing)

    def _asker(self, look: Look) -> Callable[[Endpoint], Answer]:
        # Here and not above: help and version must not wait for numpy.
        from ggrpc.engine.client.client import connect
        from ggrpc.engine.net.deadline import Deadline
        from ggrpc.engine.wire.dialects import dialect_named

        dialect = dialect_named(self.protocol) if self.protocol else None

        def ask(endpoint: Endpoint) -> Answer:
            deadline = Deadline(self.timeout)
            rows: list[Row] = []
            try:
                with connect(endpoint, dialect, self.timeout) as client:
                    for device in range(client.device_count()):
                        deadline.left()  # however many devices it says it has
                        first = {"endpoint": str(endpoint), "device": device}
                        rows.append(first | look(client, device))
                if not rows:
                    raise RefusedError("this server has no device at all")
            except GgrpcError as error:
                return Answer(endpoint, error=error)
            return Answer(endpoint, rows)

        return ask


def show(
    environment: Environment, answers: Sequence[Answer], listing: Listing
) -> ExitCode:
    """Write what servers answered, and why others did not."""
    listing.show(
        environment,
        [
            row
            for answer in answers
            for row in answer.rows or ([answer.failure] if listing.json else [])
        ],
    )
    for answer in answers:
        if answer.error:
            environment.fail(answer.error, answer.message)
    return code_of_several([answer.code for answer in answers])


def all_at_once(ask: Callable[[Endpoint], T], endpoints: Sequence[Endpoint]) -> list[T]:
    """Ask in threads; the answers are in the order of the endpoints."""
    promised = [(endpoint, Future[T]()) for endpoint in endpoints]
    todo = iter(promised)

    def work() -> None:
        for endpoint, promise in todo:
            try:
                promise.set_result(ask(endpoint))
            except BaseException as error:
                promise.set_exception(error)

    for _ in promised[:AT_ONCE]:
        # Daemons, so that Ctrl-C need not wait for a slow server.
        Thread(target=work, daemon=True).start()
    return [promise.result() for _, promise in promised]
