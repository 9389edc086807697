"""Identifies a server by its answer to HELLO: a known version, a newer one, or a fork.

Newer servers and forks answer the few queries that have not changed since 3.0.0, so
`ggrpc probe` and `ggrpc mem` work with them. Everything else would be a guess.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.dialects import (
    NEWEST,
    Dialect,
    Version,
    dialect_for,
    supported_versions,
)
from ggrpc.engine.wire.forks import Fork, fork_announcing

QUERIES = frozenset(
    {
        Command.HELLO,
        Command.DEVICE_COUNT,
        Command.GET_ALIGNMENT,
        Command.GET_MAX_SIZE,
        Command.GET_DEVICE_MEMORY,
    }
)
NEWER = "newer than this ggrpc"
_LOOK = "'ggrpc probe' and 'ggrpc mem'"


@dataclass(frozen=True)
class Identity:
    """What a server is.

    Attributes:
        version: the version that it announces.
        dialect: the dialect to use with it, None if there is none; reduced to QUERIES
            if there is a refusal.
        name: the name of the fork, or NEWER; empty for other servers.
        note: the name, and what works, in a few words; empty like the name.
        refusal: why it cannot be used and what to do, as the end of a sentence that
            begins with its endpoint; empty if it can be used.
    """

    version: Version
    dialect: Dialect | None
    name: str = ""
    note: str = ""
    refusal: str = ""


def identify(version: Version, welcome_bytes: int) -> Identity:
    """Identify a server.

    Args:
        version: the version in its answer to HELLO.
        welcome_bytes: the size of that answer. A size that is wrong for the version
            gives an identity without a dialect.
    """
    fork = fork_announcing(version, welcome_bytes)
    if fork:
        return _fork(version, fork)
    dialect = dialect_for(version)
    if dialect and welcome_bytes == _welcome_bytes(dialect):
        return Identity(version, dialect)
    if version[:2] > NEWEST.version[:2] and welcome_bytes == _welcome_bytes(NEWEST):
        return _newer(version)
    refusal = f"speaks protocol {version}; ggrpc speaks {supported_versions()}"
    if dialect:
        refusal = (
            f"announces protocol {version} in {welcome_bytes} bytes, the wrong size "
            "for that version: is it a ggml RPC server?"
        )
    return Identity(version, None, refusal=refusal)


def _welcome_bytes(dialect: Dialect) -> int:
    layout = dialect.replies[Command.HELLO]
    assert layout is not None, "HELLO has a reply in every version"
    return layout.size


def _newer(version: Version) -> Identity:
    return Identity(
        version,
        _queries(NEWEST),
        name=NEWER,
        note=NEWER,
        refusal=f"speaks protocol {version}, {NEWER}, which ends at {NEWEST.version}: "
        f"install a newer ggrpc; this one can only look at it with {_LOOK}",
    )


def _fork(version: Version, fork: Fork) -> Identity:
    return Identity(
        version,
        _queries(fork.dialect),
        name=fork.name,
        note=f"{fork.name}: probe and mem only",
        refusal=f"is a server of {fork.name} ({version}), whose {fork.own} are its "
        f"own: only {_LOOK} work with it; run llama.cpp's server or ggrpc's there for "
        "the rest",
    )


def _queries(dialect: Dialect) -> Dialect:
    return replace(dialect, commands=dialect.commands & QUERIES)
