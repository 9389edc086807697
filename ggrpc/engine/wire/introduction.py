"""How ggrpc's own client and server recognize each other, by a second HELLO.

llama.cpp's server leaves the fourth byte of its answer to HELLO zero, and its client
ignores that byte. ggrpc's server sets it. ggrpc's client then sends a second HELLO,
with an introduction in the place of the RDMA parameters, and the server answers with
the newest version that both speak. The server does not remember that version for the
client's address, because ggrpc's client speaks every version.

A client that tests a server adds its purpose, which the server logs.
"""

from __future__ import annotations

import re
from enum import IntEnum

from ggrpc.engine.wire.dialects import Version
from ggrpc.engine.wire.layouts import CAPS_BYTES

_NAME = b"ggrpc\0"
_PURPOSE_AT = len(_NAME) + 3
_PURPOSE = re.compile(rb"[a-z]*\0*")


class Maker(IntEnum):
    """The fourth byte of the answer to HELLO: the program that sent it."""

    LLAMA_CPP = 0
    # Far above the number of ggml's ops, which a fork puts there.
    GGRPC = 0xF0  # with --protocol: one version for each size of HELLO
    GGRPC_ADAPTIVE = 0xF1  # without: it offers what the client speaks


def introduction(newest: Version, purpose: str = "") -> bytes:
    """The payload of the second HELLO.

    Args:
        newest: the newest version that the client speaks.
        purpose: what the client does, up to 15 letters, if it tests the server.
    """
    return (_NAME + bytes(newest) + purpose.encode()).ljust(CAPS_BYTES, b"\0")


def introduced(caps: bytes) -> Version | None:
    """The newest version of a client that introduces itself; None for other clients."""
    if not caps.startswith(_NAME):
        return None
    return Version.of(caps[len(_NAME) : _PURPOSE_AT])


def purpose_of(caps: bytes) -> str:
    """The purpose in a client's introduction; '' if it states none."""
    purpose = caps[_PURPOSE_AT:]
    if not introduced(caps) or not _PURPOSE.fullmatch(purpose):
        return ""
    return purpose.rstrip(b"\0").decode()
