"""The errors for requests that a server does not answer, or answers wrongly.

When HELLO fails, the peer may be any program that listens on the port. When a later
request fails, it is a ggml RPC server that hangs, computes, or refuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ggrpc.endpoint import Endpoint
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.other_protocols import TLS, protocol_of
from ggrpc.errors import (
    Cancelled,
    ConnectionLost,
    GgrpcError,
    LocalProtocolError,
    RefusedError,
    RemoteProtocolError,
    TransportTimeout,
)

GRAPHS = (Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE)
MAX_HUNG_GRAPHS = 3


class UnansweredCommands:
    """The commands that a server has left unanswered, so that they are not sent again.

    Sessions with the same server share it. If an answer is missing after a graph, the
    cause may be that one graph. Graphs are sent until MAX_HUNG_GRAPHS of them hung.
    """

    def __init__(self) -> None:
        self._counts: Counter[Command] = Counter()

    def add(self, command: Command, after: Command | None) -> None:
        """Count a request without an answer.

        Args:
            command: the request.
            after: the last request without a reply that was sent before, if any.
        """
        self._counts[after if after and after in GRAPHS else command] += 1

    def __contains__(self, command: Command) -> bool:
        limit = MAX_HUNG_GRAPHS if command in GRAPHS else 1
        return self._counts[command] >= limit

    def __iter__(self) -> Iterator[Command]:
        return filter(self.__contains__, self._counts)


class FailedRequest(NamedTuple):
    """A request that failed.

    Attributes:
        endpoint: the server.
        command: the request.
        has_reply: whether it has a reply.
        after: the last request without a reply that was sent before, if any.
        seconds: the time limit.
        first: the first bytes received, if the peer has not sent a valid answer yet;
            else None.
        answers: how many other requests were answered within the time limit.
    """

    endpoint: Endpoint
    command: Command
    has_reply: bool
    after: Command | None
    seconds: float | None
    first: bytes | None
    answers: int

    def explained(self, error: GgrpcError) -> GgrpcError:
        """An error that names the server, the request and the likely cause.

        Args:
            error: the error that the stream or the connection raised.
        """
        if isinstance(error, LocalProtocolError):
            return error
        if self.first and (protocol := protocol_of(self.first)):
            return other_protocol(self.endpoint, protocol)
        if isinstance(error, TransportTimeout):
            return TransportTimeout(self._timed_out(), **self._attributes)
        if isinstance(error, ConnectionLost):
            return ConnectionLost(self._lost(), **self._attributes)
        if isinstance(error, RemoteProtocolError):
            return RemoteProtocolError(f"{self.endpoint}: {error}", **self._attributes)
        return error

    @property
    def _attributes(self) -> dict[str, str]:
        return {"endpoint": str(self.endpoint), "command": self.command.name}

    def _timed_out(self) -> str:
        within = f"within {self.seconds:g} s"
        if self.first:
            return (
                f"{self.endpoint} sent only a part of its answer to HELLO {within}: it "
                "is not a ggml RPC server, or its network is very slow"
            )
        if self.first is not None:
            return (
                f"{self.endpoint} accepts connections but did not answer {within}: it "
                "is busy with another client (llama.cpp's server serves one at a "
                "time), hung, or not a ggml RPC server"
            )
        did = "answer" if self.has_reply else "take"
        but = f"answered {self.answers} requests, but " if self.answers > 1 else ""
        return (
            f"{self.endpoint} {but}did not {did} {self._name} {within}: it computes, "
            "is overloaded, or hangs; increase --timeout to wait longer"
        )

    def _lost(self) -> str:
        advice = "its log says why"
        if self.first is not None:
            advice = (
                f"it does not admit this client ({advice}), or is not a ggml RPC server"
            )
        return (
            f"{self.endpoint} closed the connection instead of "
            f"{'answering' if self.has_reply else 'taking'} {self._name}; {advice}"
        )

    @property
    def _name(self) -> str:
        after = f" (sent after {self.after.name})" if self.after else ""
        return f"{self.command.name}{after}"


def other_protocol(endpoint: Endpoint, protocol: str) -> RemoteProtocolError:
    """The error for a peer that speaks another protocol; see `protocol_of`."""
    advice = "so it is not a ggml RPC server: is the port right?"
    if protocol == TLS:
        advice = "add --tls, or --tls-ca with the CA of its certificate"
    return RemoteProtocolError(
        f"{endpoint} speaks {protocol}, {advice}",
        endpoint=str(endpoint),
        command=Command.HELLO.name,
    )


def without_tls(endpoint: Endpoint) -> RemoteProtocolError:
    """The error for a ggml RPC server that does not use TLS."""
    return RemoteProtocolError(
        f"{endpoint} is a ggml RPC server without TLS: omit --tls and --tls-ca, or "
        "start it with --tls-cert",
        endpoint=str(endpoint),
        command=Command.HELLO.name,
    )


def cancelled(endpoint: Endpoint, command: Command) -> Cancelled:
    """The error for a request on a connection that this process has closed."""
    return Cancelled(
        f"this process closed the connection to {endpoint}",
        endpoint=str(endpoint),
        command=command.name,
    )


def not_asked(endpoint: Endpoint, command: Command) -> RefusedError:
    """The error for a request that the server has left unanswered before."""
    return RefusedError(
        f"{command.name} is not sent again: {endpoint} did not answer it before",
        endpoint=str(endpoint),
        command=command.name,
    )
