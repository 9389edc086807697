"""Stores the graphs of a session, for GRAPH_RECOMPUTE and for equal GRAPH_COMPUTEs.

From protocol 8.0.0 on, a client sends a graph once, and then only its uid. The client
counts how many graphs a device keeps, so the server must drop a graph exactly when the
client does. Programs take much more memory than the graphs that they come from, so only
the most recently used are kept. A graph without a program is compressed, and compiled
again when the client asks for it.
"""

from __future__ import annotations

import logging
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO

from zlib_ng import zlib_ng

from ggrpc.devices.device import Device, Program
from ggrpc.engine.server.quotas import Reservation
from ggrpc.engine.wire.graphs import MAX_GRAPHS, buffers_of
from ggrpc.errors import OutOfMemory

# A model has a graph for each batch size and each padded length of the KV cache. A
# client alternates between a few of them. If it splits every tensor across two servers,
# it also cuts each graph into hundreds.
MAX_PROGRAMS = 1024
# Bytes of the graphs whose programs are kept. A large model's graph has 2 MiB. Cut into
# parts it has over 100 MiB, because each part names all tensors that it depends on.
MAX_COMPILED = 256 << 20
# Bytes of a device's compressed graphs that stay in memory; the rest goes to a file.
MAX_PACKED = 32 << 20

log = logging.getLogger(__name__)


@dataclass(eq=False)
class StoredGraph:
    """One graph.

    Attributes:
        key: its key among the compiled graphs; see `_key`.
        siblings: all graphs of its device.
        payload: the encoded graph; None while it is compressed.
        buffers: the handles of the buffers that it names.
        program: the compiled graph; None while it is compressed.
        uses: how many uids refer to it.
        packed: the compressed payload, if it is in memory.
        place: the offset and size of the compressed payload in the siblings' file.
        counted: how many of its bytes count against the quota.
    """

    key: tuple[Device, int, int]
    siblings: DeviceGraphs
    payload: bytes | None
    buffers: frozenset[int] = frozenset()
    program: Program | None = None
    uses: int = 0
    packed: bytes = b""
    place: tuple[int, int] | None = None
    counted: int = 0

    @property
    def size(self) -> int:
        """The bytes of the payload, compressed or not."""
        return self.key[2]


@dataclass(eq=False)
class DeviceGraphs:
    """The graphs that one device keeps by uid; it compresses those without a program.

    The file has no name, so it disappears with the session. A graph is written to it
    once.

    Attributes:
        device: the device.
        by_uid: the graphs by uid; None is the uid in versions without uids.
        packed: the bytes of compressed graphs in memory.
        file: the compressed graphs beyond MAX_PACKED; None before the first.
    """

    device: Device
    by_uid: dict[int | None, StoredGraph] = field(default_factory=dict)
    packed: int = 0
    file: IO[bytes] | None = None

    def pack(self, graph: StoredGraph) -> int:
        """Compress a graph, and return its compressed size in bytes."""
        assert graph.payload is not None, "it is not compressed yet"
        if graph.place is None:
            data = zlib_ng.compress(graph.payload, 1)
            if self.packed + len(data) <= MAX_PACKED or not self._write(graph, data):
                graph.packed = data
                self.packed += len(data)
        graph.payload = graph.program = None
        return graph.place[1] if graph.place else len(graph.packed)

    def unpack(self, graph: StoredGraph) -> bytes:
        """Decompress a graph into memory, and return its payload."""
        data = graph.packed
        if graph.place is not None:
            assert self.file is not None, "the graph was written to it"
            self.file.seek(graph.place[0])
            data = self.file.read(graph.place[1])
        self.packed -= len(graph.packed)
        graph.packed = b""
        graph.payload = zlib_ng.decompress(data)
        return graph.payload

    def drop(self, graph: StoredGraph) -> None:
        """Release the memory of a graph that no uid refers to any more."""
        self.packed -= len(graph.packed)
        graph.packed = b""
        if self.file and not any(g.place for g in self.by_uid.values()):
            self.file.truncate(0)

    def close(self) -> None:
        """Release the file."""
        if self.file:
            self.file.close()

    def _write(self, graph: StoredGraph, data: bytes) -> bool:
        try:
            if self.file is None:
                self.file = tempfile.TemporaryFile(  # noqa: SIM115  until close
                    prefix="ggrpc-graphs-"
                )
            offset = self.file.seek(0, 2)
            self.file.write(data)
            self.file.flush()
        except OSError as error:
            log.warning(
                "graphs stay in memory: cannot write to %s: %s; set TMPDIR to another "
                "folder",
                *(tempfile.gettempdir(), error.strerror),
            )
            return False
        graph.place = offset, len(data)
        return True


class GraphStore:
    """The graphs of one session. One thread uses it.

    Args:
        compile: compiles an encoded graph for a device.
        reservation: counts the bytes of the graphs that have a uid.
    """

    def __init__(
        self, compile: Callable[[Device, bytes], Program], reservation: Reservation
    ) -> None:
        self._compile = compile
        self._reservation = reservation
        # The graphs that have a program, the least recently used first.
        self._compiled: OrderedDict[tuple[Device, int, int], StoredGraph] = (
            OrderedDict()
        )
        self._compiled_bytes = 0
        self._by_device: dict[Device, DeviceGraphs] = {}
        self._counted = 0

    def keep(self, device: Device, uid: int | None, payload: bytes) -> Program:
        """The program of a graph that the client sent.

        Args:
            device: the device that computes it.
            uid: the uid to keep it under. 0 does not keep it for GRAPH_RECOMPUTE. None,
                in versions without uids, keeps it as the device's last graph.
            payload: the encoded graph.

        Raises:
            GgrpcError: the graph is not valid, or exceeds the client's quota.
        """
        graph = self._compiled.get(_key(device, payload))
        if graph is None or graph.payload != payload:
            graph = self._add(device, payload)
        self._compiled.move_to_end(graph.key)
        if uid != 0:
            self._bind(uid, graph)
        assert graph.program is not None, "it was compiled just now"
        return graph.program

    def recall(self, device: Device, uid: int | None) -> Program | None:
        """The program of a graph that the device keeps; None if it has no such graph.

        Raises:
            GgrpcError: the graph cannot be compiled again.
        """
        siblings = self._by_device.get(device)
        graph = siblings.by_uid.get(uid) if siblings else None
        if graph is None:
            return None
        if graph.program is None:
            self._revive(graph)
        self._compiled.move_to_end(graph.key)
        return graph.program

    def forget(self, buffer: int) -> None:
        """Drop the graphs that touch a buffer, which is about to be freed."""
        for graphs in self._by_device.values():
            for uid in [u for u, g in graphs.by_uid.items() if buffer in g.buffers]:
                self._unbind(graphs.by_uid.pop(uid))
        for graph in [g for g in self._compiled.values() if buffer in g.buffers]:
            self._remove(graph)

    def clear(self) -> None:
        """Drop all graphs."""
        for graphs in self._by_device.values():
            graphs.close()
        self._by_device.clear()
        self._compiled.clear()
        self._compiled_bytes = self._counted = 0
        self._reservation.resize(0)

    def _add(self, device: Device, payload: bytes) -> StoredGraph:
        siblings = self._by_device.setdefault(device, DeviceGraphs(device))
        graph = StoredGraph(_key(device, payload), siblings, payload)
        self._compile_into(graph, payload)
        graph.buffers = buffers_of(payload)
        return graph

    def _revive(self, graph: StoredGraph) -> None:
        """Compile a compressed graph once more."""
        self._compile_into(graph, graph.siblings.unpack(graph))
        if graph.counted:
            self._count(graph, graph.size)

    def _compile_into(self, graph: StoredGraph, payload: bytes) -> None:
        twin = self._compiled.get(graph.key)
        if twin is not None:  # equal, under another uid, or with the same checksum
            self._evict(twin)
        while self._compiled and (
            len(self._compiled) >= MAX_PROGRAMS
            or self._compiled_bytes + graph.size > MAX_COMPILED
        ):
            self._evict(next(iter(self._compiled.values())))
        graph.program = self._compile(graph.siblings.device, payload)
        self._compiled[graph.key] = graph
        self._compiled_bytes += graph.size

    def _evict(self, graph: StoredGraph) -> None:
        """Drop a program; the graph stays, compressed, if the client may ask for it."""
        self._remove(graph)
        if graph.uses:
            size = graph.siblings.pack(graph)
            if graph.counted:
                self._count(graph, size)

    def _remove(self, graph: StoredGraph) -> None:
        del self._compiled[graph.key]
        self._compiled_bytes -= graph.size

    def _bind(self, uid: int | None, graph: StoredGraph) -> None:
        kept = graph.siblings.by_uid
        graph.uses += 1  # first, so that it stays if it had this uid before
        if uid is not None and len(kept) >= MAX_GRAPHS:
            dropped = list(kept.values())
            kept.clear()
        else:
            dropped = [kept.pop(uid)] if uid in kept else []
        kept[uid] = graph
        for old in dropped:
            self._unbind(old)
        if uid is None:
            return  # one graph per device, which does not count against the quota
        try:
            self._count(graph, graph.size)
        except OutOfMemory as error:
            raise OutOfMemory(
                f"the graph with uid {uid} is one too many, after {len(kept) - 1} "
                f"others that the client keeps: {error}"
            ) from None

    def _unbind(self, graph: StoredGraph) -> None:
        graph.uses -= 1
        if not graph.uses:
            self._count(graph, 0)
            graph.siblings.drop(graph)

    def _count(self, graph: StoredGraph, size: int) -> None:
        self._reservation.resize(self._counted + size - graph.counted)
        self._counted += size - graph.counted
        graph.counted = size


def _key(device: Device, payload: bytes) -> tuple[Device, int, int]:
    """The key of a graph, with a checksum that is 40 times as fast as `hash`.

    Different graphs can have the same key, so their payloads must be compared too.
    """
    return device, zlib_ng.crc32(payload), len(payload)
