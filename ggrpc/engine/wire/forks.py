"""The forks of llama.cpp that changed its protocol, and how to recognize them.

All facts about a fork are in `FORKS`, for the client, the server, the recorder and
docs/protocol.md. A fork's server is recognized by its answer to HELLO. A client never
says what it is, but the size of its tensors may tell.
"""

from __future__ import annotations

from dataclasses import dataclass

from ggrpc.engine.wire.dialects import (
    V2_0_0,
    V3_0_0,
    V3_5_0,
    V5_0_0,
    V7_0_0,
    V8_0_0,
    Dialect,
    Version,
)
from ggrpc.engine.wire.tensors import TENSOR_BYTES

MAX_BYTE = 255


@dataclass(frozen=True, kw_only=True)
class Fork:
    """One fork.

    Attributes:
        name: the name of the project.
        source: the repository that the facts come from.
        first: the first version that its servers announce.
        last: the last version that its servers announce.
        welcome: the sizes of its answer to HELLO, in bytes.
        dialect: llama.cpp's version whose queries (DEVICE_COUNT, GET_ALIGNMENT,
            GET_MAX_SIZE, GET_DEVICE_MEMORY) its servers answer.
        tensors: the sizes of its rpc_tensor that are not llama.cpp's, in bytes. Empty
            if its clients reject every version that ggrpc offers.
        lookalikes: the versions that its clients use with tensors of llama.cpp's size,
            so that they cannot be told from llama.cpp.
        own: the parts of the protocol that differ from llama.cpp's, for messages.
    """

    name: str
    source: str
    first: Version
    last: Version
    welcome: tuple[int, ...]
    dialect: Dialect
    tensors: tuple[int, ...] = ()
    lookalikes: tuple[Dialect, ...] = ()
    own: str

    @property
    def announces(self) -> str:
        """The versions that its servers announce, for people to read."""
        if self.last.major > self.first.major:
            return f"{self.first.major} and above"
        if self.last.minor > self.first.minor:
            first, last = self.first, self.last
            return f"{first.major}.{first.minor} to {last.major}.{last.minor}"
        if self.last.patch == MAX_BYTE:
            return f"{self.first.major}.{self.first.minor}"
        if self.last > self.first:
            return f"{self.first} to {self.last}"
        return str(self.first)


FORKS = (
    Fork(
        name="ik_llama.cpp",
        source="https://github.com/ikawrakow/ik_llama.cpp",
        first=Version(3, 5, 1),
        last=Version(3, 5, 2),
        welcome=(3,),
        dialect=V3_5_0,
        tensors=(312, 344, 376),  # since 2026-05-19, 2026-06-29 and 2026-08-26
        lookalikes=(V3_0_0, V3_5_0),
        own="tensors, ops and types",
    ),
    Fork(
        name="stable-diffusion.cpp",
        source="https://github.com/leejet/stable-diffusion.cpp",
        first=Version(5, 0, 1),
        last=Version(5, 0, 1),
        welcome=(28,),
        dialect=V5_0_0,
        tensors=(360, 392),  # names of 128 bytes, of 160 since 2026-07-14
        own="tensors and some ops",
    ),
    Fork(
        name="llama-box",
        source="https://github.com/gpustack/llama-box",
        first=Version(2, 0, 0),
        last=Version(2, 0, MAX_BYTE),
        welcome=(4,),
        dialect=V2_0_0,
        own="answer to HELLO and command 15",
    ),
    Fork(
        name="qvac-fabric",
        source="https://github.com/tetherto/qvac-fabric-llm.cpp",
        first=Version(100, 0, 0),
        last=Version(MAX_BYTE, MAX_BYTE, MAX_BYTE),
        welcome=(3, 28),
        dialect=V8_0_0,
        own="ops and links between servers",
    ),
    Fork(
        name="llama-halo-hybrid",
        source="https://github.com/sixvolts/llama-halo-hybrid",
        first=Version(7, 2, 0),
        last=Version(7, 6, MAX_BYTE),
        welcome=(28,),
        dialect=V7_0_0,
        own="replies to graphs and some ops",
    ),
)


def fork_announcing(version: Version, welcome_bytes: int) -> Fork | None:
    """The fork whose servers announce a version.

    Args:
        version: the announced version.
        welcome_bytes: the size of the answer to HELLO.
    """
    for fork in FORKS:
        if fork.first <= version <= fork.last and welcome_bytes in fork.welcome:
            return fork
    return None


def fork_sending(dialect: Dialect, tensor_bytes: float) -> Fork | None:
    """The fork whose clients send tensors of a size that llama.cpp's never have.

    Args:
        dialect: the dialect of the session.
        tensor_bytes: the size of a tensor; a fraction if the message's size is wrong.
    """
    if tensor_bytes == TENSOR_BYTES:
        return None
    for fork in FORKS:
        same_kind = fork.dialect.hello_size == dialect.hello_size
        if same_kind and tensor_bytes in fork.tensors:
            return fork
    return None


def lookalikes(dialect: Dialect) -> list[Fork]:
    """The forks whose clients look like llama.cpp's in a dialect, until an error."""
    return [fork for fork in FORKS if dialect in fork.lookalikes]


def forks_rejecting(hello_size: int) -> list[Fork]:
    """The forks whose clients reject every version, by the size of their HELLO."""
    return [
        fork
        for fork in FORKS
        if not fork.tensors and fork.dialect.hello_size == hello_size
    ]
