"""The protocol versions, as data: which fields and commands, which replies, which ops.

Adding a version is one entry here. No code outside this file asks for a version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.layouts import CAPS_BYTES, REPLIES, REQUESTS, Layout
from ggrpc.engine.wire.messages import Done
from ggrpc.engine.wire.op_tables import OpTable, op_table
from ggrpc.errors import ConfigError


class Version(NamedTuple):
    """A protocol version."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return ".".join(map(str, self))


@dataclass(frozen=True, eq=False)
class Dialect:
    """How one version of the protocol is spoken.

    Attributes:
        version: what the server announces.
        optional: the fields marked ? in `layouts` that this version has.
        commands: what a client may send.
        silent: the commands that have no reply at all.
        op_table_date: the day whose op table holds.
    """

    version: Version
    optional: frozenset[str]
    commands: frozenset[Command]
    silent: frozenset[Command]
    op_table_date: str

    @cached_property
    def table(self) -> OpTable:
        """The numbers of the ops."""
        return op_table(self.op_table_date)

    @property
    def hello_size(self) -> int:
        """Bytes in a client's HELLO."""
        return CAPS_BYTES if "caps" in self.optional else 0

    @cached_property
    def requests(self) -> dict[int, Layout]:
        """The layout of each request, by command."""
        return {
            message.command: Layout(message, fields, self.optional, self.table)
            for message, fields in REQUESTS
            if message.command in self.commands
        }

    @cached_property
    def replies(self) -> dict[int, Layout | None]:
        """The layout of each command's reply, None where it has none."""
        return {command: self._reply(command) for command in self.commands}

    def _reply(self, command: Command) -> Layout | None:
        if command in self.silent:
            return None
        message, fields = REPLIES.get(command, (Done, ""))
        return Layout(message, fields, self.optional, self.table)


V3_6_1 = Dialect(
    version=Version(3, 6, 1),
    optional=frozenset({"device", "srcs"}),
    commands=frozenset(Command) - {Command.MEMSET_TENSOR},
    silent=frozenset(
        {Command.SET_TENSOR, Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE}
    ),
    op_table_date="2026-04-09",
)

V7_0_0 = replace(
    V3_6_1,
    version=Version(7, 0, 0),
    optional=V3_6_1.optional | {"caps", "padding", "cache"},
    commands=frozenset(Command),
    silent=V3_6_1.silent
    | {
        Command.FREE_BUFFER,
        Command.BUFFER_CLEAR,
        Command.INIT_TENSOR,
        Command.MEMSET_TENSOR,
    },
    op_table_date="2026-09-11",
)

DIALECTS = (V3_6_1, V7_0_0)
DEFAULTS = (V3_6_1, V7_0_0)  # one for each size of HELLO


def dialect_named(text: str) -> Dialect:
    """The dialect of a version, written `7.0.0` or shorter, such as `7`.

    Raises:
        ConfigError: ggrpc does not speak it.
    """
    if re.fullmatch(r"\d+(\.\d+){0,2}", text):
        wanted = tuple(map(int, text.split(".")))
        for dialect in reversed(DIALECTS):
            if dialect.version[: len(wanted)] == wanted:
                return dialect
    raise ConfigError(f"protocol '{text}' is not spoken here: use one of {spoken()}")


def spoken() -> str:
    """The versions that ggrpc speaks, for people to read."""
    return ", ".join(str(dialect.version) for dialect in DIALECTS)
