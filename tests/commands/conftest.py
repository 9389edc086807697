"""Runs commands in this process, with stdin, stdout and stderr of the test."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from ggrpc.commands.environment import Environment
from ggrpc.commands.main import run
from ggrpc.devices.device import Buffer, Device, Memory, Placed, Program
from ggrpc.graph import Graph
from ggrpc.ops import Node
from tests.support.servers import running


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


class Outcome(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of JSON output."""
        return [json.loads(line) for line in self.out.splitlines()]


def ggrpc_in(stdout: io.StringIO, *arguments: str, width: int | None = None) -> Outcome:
    """Run a command with this stdout."""
    stderr = io.StringIO()
    code = run(arguments, Environment(stdout, stderr, width))
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def piped() -> Callable[..., Outcome]:
    """Runs a command whose stdout is a pipe."""
    return lambda *arguments: ggrpc_in(io.StringIO(), *arguments)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs a command whose stdout is a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def in_terminal(*arguments: str, width: int = 100) -> Outcome:
        return ggrpc_in(Terminal(), *arguments, width=width)

    return in_terminal


class NoMaths(Device):
    """A device with too little memory for any buffer."""

    name = "none"
    description = "computes nothing"
    alignment = 32
    max_size = 1 << 40

    def memory(self) -> Memory:
        return Memory(3 << 30, 4 << 30)

    def allocate(self, size: int) -> Buffer:
        raise NotImplementedError

    def supports(self, node: Node) -> bool:
        return False

    def compile(self, graph: Graph, buffers: Mapping[int, Placed]) -> Program:
        raise NotImplementedError


@pytest.fixture(scope="session")
def server():  # type: ignore[no-untyped-def]
    """The endpoint of a server with two devices, as text."""
    with running(NoMaths(), NoMaths(), host="127.0.0.1") as endpoint:
        yield str(endpoint)
