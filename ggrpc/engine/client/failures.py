"""What to tell of a server that does not answer, or answers something else.

At the first request, HELLO, it may be anything that listens on the port; later it is a
server of ggml RPC that hangs, computes, or refuses.
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

    Sessions with the same server share it. If an answer is missing after a graph, that
    graph may be the cause, and others may do: MAX_HUNG_GRAPHS of them are tried.
    """

    def __init__(self) -> None:
        self._counts: Counter[Command] = Counter()

    def add(self, command: Command, told: Command | None) -> None:
        """Count a request without an answer.

        Args:
            command: the request.
            told: the request without a reply that was sent before, if there is one.
        """
        self._counts[told if told and told in GRAPHS else command] += 1

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
        told: the request without a reply that was sent before, if there is one.
        seconds: the time limit.
        first: the first bytes that came, if none of the peer's answers was valid so
            far; else None.
        answers: how many other requests were answered within the time limit.
    """

    endpoint: Endpoint
    command: Command
    has_reply: bool
    told: Command | None
    seconds: float | None
    first: bytes | None
    answers: int

    def explained(self, error: GgrpcError) -> GgrpcError:
        """The error that tells the cause.

        Args:
            error: what the stream or the connection raised.
        """
        if isinstance(error, LocalProtocolError):
            return error
        if self.first and (protocol := protocol_of(self.first)):
            return other_protocol(self.endpoint, protocol)
        if isinstance(error, TransportTimeout):
            return TransportTimeout(self._timed_out(), **self._place)
        if isinstance(error, ConnectionLost):
            return ConnectionLost(self._lost(), **self._place)
        if isinstance(error, RemoteProtocolError):
            return RemoteProtocolError(f"{self.endpoint}: {error}", **self._place)
        return error

    @property
    def _place(self) -> dict[str, str]:
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
            advice = f"it does not admit this client ({advice}), or is no RPC server"
        return (
            f"{self.endpoint} closed the connection instead of "
            f"{'answering' if self.has_reply else 'taking'} {self._name}; {advice}"
        )

    @property
    def _name(self) -> str:
        told = f" (sent after {self.told.name})" if self.told else ""
        return f"{self.command.name}{told}"


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
    """The error for a server of ggml RPC that does not use TLS."""
    return RemoteProtocolError(
        f"{endpoint} is a ggml RPC server without TLS: omit --tls and --tls-ca, or "
        "start it with --tls-cert",
        endpoint=str(endpoint),
        command=Command.HELLO.name,
    )


def cancelled(endpoint: Endpoint, command: Command) -> Cancelled:
    """The error for a request on a connection that this process has ended."""
    return Cancelled(
        f"the connection with {endpoint} was ended here",
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
