"""The protocol versions as data: their fields, commands, replies and op tables.

A new version needs one entry here: see docs/adding-a-version.md. Only this file,
`forks` and `identity` compare version numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple, cast

from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.layouts import CAPS_BYTES, REPLIES, REQUESTS, Layout
from ggrpc.engine.wire.messages import Done, Request
from ggrpc.engine.wire.op_tables import FIRST, OpTable, op_table
from ggrpc.errors import ConfigError
from ggrpc.op import GluOp, Op, UnaryOp


class Version(NamedTuple):
    """A protocol version."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return ".".join(map(str, self))

    @classmethod
    def of(cls, welcome: bytes | memoryview) -> Version:
        """Read the version from the reply to HELLO; missing bytes count as zero."""
        return cls(*bytes(welcome[:3]).ljust(3, b"\0"))


@dataclass(frozen=True, eq=False)
class Dialect:
    """One version of the protocol.

    Attributes:
        version: the version that the server announces.
        since: the date on which llama.cpp switched to this version.
        optional: the fields marked ? in `layouts` that this version has; also
            `use_count` and `compute` (a flag), if its tensors carry them.
        commands: the commands that a client may send.
        silent: the commands without a reply.
        op_tables: the names of the op tables that were in use with this version, or
            with another patch of it, since a client never sends the patch number; the
            newest is last.
    """

    version: Version
    since: str
    optional: frozenset[str]
    commands: frozenset[Command]
    silent: frozenset[Command]
    op_tables: tuple[str, ...]

    @cached_property
    def tables(self) -> tuple[OpTable, ...]:
        """The op tables that a peer of this version may use, newest first."""
        return tuple(op_table(name) for name in reversed(self.op_tables))

    @property
    def table(self) -> OpTable:
        """The newest op table."""
        return self.tables[0]

    def has_one_number(self, operation: Op | UnaryOp | GluOp) -> bool:
        """Whether an op or sub-operation has the same number in all op tables."""
        return len({table.number(operation) for table in self.tables}) == 1

    @property
    def hello_size(self) -> int:
        """The size of the payload of a client's HELLO in bytes."""
        return CAPS_BYTES if "caps" in self.optional else 0

    @property
    def has_cache_flag(self) -> bool:
        """Whether SET_TENSOR says if the server should cache the data."""
        return "cache" in self.optional

    @property
    def has_uids(self) -> bool:
        """Whether a server keeps graphs by uid, and not only the last of a device."""
        return "uid" in self.optional

    @cached_property
    def requests(self) -> dict[int, Layout]:
        """The layout of each request, by the command's number on the wire."""
        return {
            message.command.number: Layout(message, fields, self.optional, self.table)
            for message, fields in REQUESTS
            if message.command in self.commands
        }

    def command(self, number: int) -> Command | None:
        """The command with a number on the wire, None if this version has none."""
        layout = self.requests.get(number)
        return cast(type[Request], layout.message).command if layout else None

    @cached_property
    def replies(self) -> dict[int, Layout | None]:
        """The layout of each command's reply, None for commands without one."""
        return {command: self._reply(command) for command in self.commands}

    @cached_property
    def hello_replies(self) -> dict[int, Layout]:
        """The layouts of the reply to HELLO by size: a fork of 2.0 adds a fourth byte.

        `Version.of` reads the version from all of them.
        """
        message, fields = REPLIES[Command.HELLO]
        optional = self.optional, self.optional | {"padding"}
        layouts = [Layout(message, fields, o, self.table) for o in optional]
        return {layout.size: layout for layout in layouts}

    def _reply(self, command: Command) -> Layout | None:
        if command in self.silent:
            return None
        message, fields = REPLIES.get(command, (Done, ""))
        return Layout(message, fields, self.optional, self.table)


_FIRST_COMMANDS = frozenset(c for c in Command if c <= Command.HELLO)

V1_0_0 = Dialect(
    version=Version(1, 0, 0),
    since=FIRST,
    optional=frozenset(),
    commands=_FIRST_COMMANDS,
    silent=frozenset(),
    op_tables=(FIRST,),
)
V2_0_0 = replace(
    V1_0_0,
    version=Version(2, 0, 0),
    since="2025-05-01",
    silent=frozenset({Command.SET_TENSOR}),
    op_tables=(
        *(FIRST, "2025-05-25a", "2025-05-25b", "2025-06-18", "2025-07-01a"),
        *("2025-07-01b", "2025-07-01c", "2025-07-12", "2025-08-14a", "2025-08-14b"),
        *("2025-09-05a", "2025-09-05b", "2025-10-12"),
    ),
)
V3_0_0 = replace(
    V2_0_0,
    version=Version(3, 0, 0),
    since="2025-10-12",
    optional=frozenset({"device"}),
    commands=V2_0_0.commands | {Command.DEVICE_COUNT},
    op_tables=("2025-10-12", "2025-10-21", "2025-11-17", "2025-12-11"),
)
V3_5_0 = replace(
    V3_0_0,
    version=Version(3, 5, 0),
    since="2025-12-11",
    commands=V3_0_0.commands | {Command.GRAPH_RECOMPUTE},
    silent=V3_0_0.silent | {Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE},
    op_tables=("2025-12-11",),
)
V3_6_0 = replace(
    V3_5_0,
    version=Version(3, 6, 0),
    optional=V3_5_0.optional | {"srcs"},
    op_tables=("2025-12-11", "2026-03-15"),
)
V3_6_1 = replace(
    V3_6_0,
    version=Version(3, 6, 1),
    since="2026-03-15",
    optional=V3_6_0.optional | {"compute"},
)
V4_0_0 = replace(
    V3_6_1,
    version=Version(4, 0, 0),
    since="2026-04-21",
    optional=V3_6_1.optional | {"caps", "padding"},
    op_tables=("2026-03-15", "2026-06-11", "2026-07-17a", "2026-07-17b"),
)
V4_0_1 = replace(V4_0_0, version=Version(4, 0, 1), since="2026-06-11")
V4_0_2 = replace(V4_0_0, version=Version(4, 0, 2), since="2026-07-17")
V4_0_3 = replace(V4_0_0, version=Version(4, 0, 3), since="2026-07-17")
V5_0_0 = replace(
    V4_0_3,
    version=Version(5, 0, 0),
    since="2026-07-30",
    commands=V4_0_3.commands | {Command.MEMSET_TENSOR},
    op_tables=("2026-07-17b",),
)
V5_1_0 = replace(
    V5_0_0,
    version=Version(5, 1, 0),
    since="2026-08-21",
    optional=V5_0_0.optional | {"use_count"},
)
V6_0_0 = replace(
    V5_1_0,
    version=Version(6, 0, 0),
    since="2026-08-26",
    silent=V5_1_0.silent
    | {
        Command.FREE_BUFFER,
        Command.BUFFER_CLEAR,
        Command.INIT_TENSOR,
        Command.MEMSET_TENSOR,
    },
    op_tables=("2026-07-17b", "2026-09-11"),
)
V7_0_0 = replace(
    V6_0_0,
    version=Version(7, 0, 0),
    since="2026-09-11",
    optional=V6_0_0.optional | {"cache"},
    op_tables=("2026-09-11",),
)
V7_0_1 = replace(
    V7_0_0,
    version=Version(7, 0, 1),
    commands=V7_0_0.commands | {Command.GET_DEVICE_SUPPORTS_OP},
)
V8_0_0 = replace(
    V7_0_0,
    version=Version(8, 0, 0),
    since="2026-10-06",
    optional=V7_0_0.optional | {"uid"},
    commands=V7_0_0.commands
    | {
        *(Command.SET_TENSOR_2D, Command.GET_TENSOR_2D),
        *(Command.COMM_INIT, Command.COMM_ALLREDUCE, Command.COMM_FREE),
    },
    silent=V7_0_0.silent
    | {Command.SET_TENSOR_2D, Command.COMM_ALLREDUCE, Command.COMM_FREE},
)

DIALECTS = (
    *(V1_0_0, V2_0_0, V3_0_0, V3_5_0, V3_6_0, V3_6_1),
    *(V4_0_0, V4_0_1, V4_0_2, V4_0_3, V5_0_0, V5_1_0, V6_0_0, V7_0_0, V7_0_1),
    V8_0_0,
)
NEWEST = DIALECTS[-1]
DEFAULTS = (V3_6_1, NEWEST)  # one for each size of HELLO
# The versions that a prefix such as `7` stands for, if several fit: 7.0.1 is a proposal
# that few builds speak.
PREFERRED = (*DEFAULTS, V7_0_0)

# Versions whose patch number counts the op tables. A server announces its patch number,
# so its op table is known.
OP_TABLE_OF_SERVER = {
    V3_6_0.version: "2025-12-11",
    V3_6_1.version: "2026-03-15",
    V4_0_0.version: "2026-03-15",
    V4_0_1.version: "2026-06-11",
    V4_0_2.version: "2026-07-17a",
    V4_0_3.version: "2026-07-17b",
}


def dialect_named(text: str) -> Dialect:
    """The dialect of a version such as `7.0.0`, or of a prefix such as `5` or `3.6`.

    Raises:
        ConfigError: ggrpc does not support the version.
    """
    if re.fullmatch(r"\d+(\.\d+){0,2}", text):
        wanted = tuple(map(int, text.split(".")))
        fits = [d for d in DIALECTS if d.version[: len(wanted)] == wanted]
        for dialect in (*PREFERRED, *reversed(fits)):
            if dialect in fits:
                return dialect
    raise ConfigError(
        f"protocol '{text}' is not supported: use one of {supported_versions()}"
    )


def dialects_named(text: str) -> tuple[Dialect, ...]:
    """The dialects of a list such as `2.0,5.0`, one for each size of HELLO.

    Raises:
        ConfigError: a version is not supported, or two have the same size of HELLO.
    """
    dialects = tuple(dialect_named(part.strip()) for part in text.split(","))
    if len({dialect.hello_size for dialect in dialects}) < len(dialects):
        raise ConfigError(
            f"--protocol {text} is ambiguous: give at most one version up to 3.6 and "
            "one from 4.0 on"
        )
    return dialects


def dialect_for(version: Version) -> Dialect | None:
    """The dialect of llama.cpp's servers that announce a version, or None.

    A patch number without a dialect of its own only counts changes to the op table.
    """
    fits = [d for d in DIALECTS if d.version[:2] == version[:2]]
    older = [d for d in fits if d.version <= version]
    return (older or fits)[-1] if fits else None


@cache
def narrowed_to(server: Version, dialect: Dialect, op_table: str = "") -> Dialect:
    """A dialect reduced to the one op table of a server, if that table is known.

    Args:
        server: the version that the server announces.
        dialect: the dialect to use with the server.
        op_table: the name of the op table, if the user gave one.
    """
    table = op_table or OP_TABLE_OF_SERVER.get(server)
    return replace(dialect, op_tables=(table,)) if table else dialect


def superseded_on(version: Version) -> str | None:
    """The date on which llama.cpp moved on to the next major or minor version.

    Returns:
        None for the newest version.
    """
    later = [d.since for d in DIALECTS if d.version[:2] > version[:2]]
    return min(later) if later else None


def supported_versions() -> str:
    """The versions that ggrpc supports, for people to read."""
    return ", ".join(str(dialect.version) for dialect in DIALECTS)
