"""Splits the byte streams of a connection into messages and records them."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ggrpc.engine.cache.fnv1a import Hasher
from ggrpc.engine.recording.journal import JournalWriter
from ggrpc.engine.recording.weight_recording import WeightRecording
from ggrpc.engine.wire.commands import Command
from ggrpc.engine.wire.connection import REPLY_HEAD, REQUEST_HEAD
from ggrpc.engine.wire.dialects import Dialect, Version
from ggrpc.engine.wire.identity import Identity, identify
from ggrpc.engine.wire.tensors import RPC_TENSOR

_BUFFER = struct.Struct("<Q")
_BUFFER_AT = RPC_TENSOR.fields["buffer"][1]  # type: ignore[index]
HASH_CHUNK = 1 << 20  # bytes to hash at once; hashing small pieces is much slower
MIN_BEGINNING = _BUFFER_AT + _BUFFER.size  # bytes of a request, up to a tensor's buffer


class MessageFramer:
    """Splits one direction of a connection into messages.

    Args:
        journal: the journal to write messages to.
        connection: the number of the connection.
        from_server: whether the server sends them.
        on_begin: called at the start of a message, with its command (0 for replies),
            its size and its first bytes; returns how many of its bytes to record, None
            for all.
        hashes: whether to record a hash of the bytes that are left out.
    """

    def __init__(
        self,
        journal: JournalWriter,
        connection: int,
        from_server: bool,
        on_begin: Callable[[int, int, memoryview], int | None],
        hashes: bool = False,
    ) -> None:
        self._journal = journal
        self._of = connection, from_server
        self._head = REPLY_HEAD if from_server else REQUEST_HEAD
        self._on_begin = on_begin
        self._hashes = hashes
        self._pending = b""
        self._left = 0  # bytes of the message that have not arrived yet
        self._keep = 0  # how many of those to record
        self._omitted = 0  # bytes of the message that are not recorded
        self._hasher: Hasher | None = None
        self._unhashed = bytearray()

    def feed(self, data: memoryview) -> None:
        """Process the next bytes of the stream.

        Raises:
            RecordingError: the file cannot be written.
        """
        if self._pending:
            data = memoryview(self._pending + bytes(data))
            self._pending = b""
        while len(data):
            if self._left:
                data = self._continue(data)
            elif self._has_beginning(data):
                data = self._begin(data)
            else:
                self._pending = bytes(data)
                return

    def _has_beginning(self, data: memoryview) -> bool:
        """Whether `data` has enough of a message to call `on_begin`."""
        if len(data) < self._head.size:
            return False
        size: int = self._head.unpack_from(data)[-1]
        return len(data) >= self._head.size + min(size, MIN_BEGINNING)

    def _begin(self, data: memoryview) -> memoryview:
        *command, size = self._head.unpack_from(data)
        number = command[0] if command else 0
        rest = data[self._head.size :]
        keep = self._on_begin(number, size, rest)
        self._keep = size if keep is None else min(keep, size)
        here = rest[: self._keep]
        self._journal.message(*self._of, number, size, here)
        self._left = size - len(here)
        self._keep -= len(here)
        self._omitted = size - (len(here) + self._keep)
        self._hasher = Hasher() if self._omitted and self._hashes else None
        return rest[len(here) :]

    def _continue(self, data: memoryview) -> memoryview:
        here = data[: self._keep or self._left]
        if self._keep:
            self._journal.part(*self._of, here)
            self._keep -= len(here)
        elif self._hasher:
            self._unhashed += here
        self._left -= len(here)
        if self._hasher and (len(self._unhashed) >= HASH_CHUNK or not self._left):
            self._hasher.update(self._unhashed)
            self._unhashed = bytearray()
        if self._omitted and not self._left:
            hash = self._hasher.value if self._hasher else 0
            self._journal.omitted(*self._of, self._omitted, hash)
        return data[len(here) :]


class ConnectionTap:
    """Records both directions of a connection.

    Weights are the data that a client sets before its first graph, in the buffers that
    it allocated first: llama.cpp loads the model, then allocates compute buffers.

    Args:
        journal: the journal to write to.
        connection: the number of the connection.
        weights: how to record weights.
        computed: called when a graph is computed.
        greeted: called with the server's identity, before its first reply is recorded.

    Attributes:
        requests: feed it the bytes from the client.
        replies: feed it the bytes from the server, before the client gets them.
    """

    def __init__(
        self,
        journal: JournalWriter,
        connection: int,
        weights: WeightRecording,
        computed: Callable[[], None],
        greeted: Callable[[Identity], None],
    ) -> None:
        self._weights = weights
        self._computed = computed
        self._greeted = greeted
        self._has_computed = False
        self._loading = True  # whether the client may still allocate weight buffers
        self._weight_buffers: set[int] = set()
        self._has_dialect = False
        self._dialect: Dialect | None = None
        hashes = weights is WeightRecording.HASH
        self.requests = MessageFramer(journal, connection, False, self._request, hashes)
        self.replies = MessageFramer(journal, connection, True, self._reply)

    def _request(self, command: int, size: int, data: memoryview) -> int | None:
        if command == Command.HELLO:
            self._has_dialect = False  # until the reply arrives
        elif command in (Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE):
            self._has_computed = True
            self._computed()
        elif command == Command.ALLOC_BUFFER and self._weight_buffers:
            self._loading = False
        elif (
            command in (Command.SET_TENSOR, Command.SET_TENSOR_2D)
            and not self._has_computed
            and self._is_weight(data)
        ):
            # The fields are recorded. Their size depends on the version.
            return self._dialect.requests[command].size if self._dialect else None
        return None

    def _is_weight(self, data: memoryview) -> bool:
        """Whether a client sets weights; while it loads them, remember the buffer."""
        if self._weights is WeightRecording.FULL or len(data) < MIN_BEGINNING:
            return False
        buffer: int = _BUFFER.unpack_from(data, _BUFFER_AT)[0]
        if self._loading:
            self._weight_buffers.add(buffer)
        return buffer in self._weight_buffers

    def _reply(self, command: int, size: int, data: memoryview) -> int | None:
        if not self._has_dialect:
            identity = identify(Version.of(data), size)
            self._greeted(identity)
            self._dialect = identity.dialect
        self._has_dialect = True
        return None
