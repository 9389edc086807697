from __future__ import annotations

import struct
import sys
import tempfile

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device, Program
from ggrpc.engine.server import graph_store
from ggrpc.engine.server.graph_store import MAX_PROGRAMS, GraphStore
from ggrpc.engine.server.quotas import MemoryQuota, Reservation
from ggrpc.engine.wire.graphs import MAX_GRAPHS
from ggrpc.engine.wire.tensors import RPC_TENSOR, TENSOR_BYTES
from ggrpc.errors import OutOfMemory
from ggrpc.graph import Graph


def payload(number: int, *buffers: int) -> bytes:
    """An encoded graph, different for each number, with a tensor in each buffer."""
    at = RPC_TENSOR.fields["buffer"][1]
    tensors = bytearray(TENSOR_BYTES * len(buffers))
    for i, buffer in enumerate(buffers):
        struct.pack_into("<Q", tensors, i * TENSOR_BYTES + at, buffer)
    return struct.pack("<IQI", 1, number, len(buffers)) + tensors


class Store:
    """A store, and a list of the graphs that it compiled."""

    def __init__(self, memory: int | None = None) -> None:
        self.quota = MemoryQuota(memory, sys.maxsize, "--max-client-memory")
        self.compiled: list[bytes] = []
        self.store = GraphStore(self._compile, Reservation(self.quota))
        self.device = CpuDevice(threads=1, weight_cache=0)

    def _compile(self, device: Device, graph: bytes) -> Program:
        self.compiled.append(graph)
        return device.compile(Graph.of([], []), {})

    def keep(self, uid: int | None, graph: bytes) -> Program:
        return self.store.keep(self.device, uid, graph)

    def recall(self, uid: int | None) -> Program | None:
        return self.store.recall(self.device, uid)


def test_same_bytes_are_compiled_once_for_each_device() -> None:
    one = Store()
    first = one.keep(0, payload(1))
    assert one.keep(0, bytes(bytearray(payload(1)))) is first
    other = CpuDevice(threads=1, weight_cache=0)
    assert one.store.keep(other, 0, payload(1)) is not first
    assert len(one.compiled) == 2
    one.store.clear()
    assert one.keep(0, payload(1)) is not first


def test_least_recently_used_programs_are_dropped() -> None:
    one = Store()
    for i in range(MAX_PROGRAMS):
        one.keep(0, payload(i))
    one.keep(0, payload(0))
    one.keep(0, payload(MAX_PROGRAMS))
    one.keep(0, payload(0))
    assert len(one.compiled) == MAX_PROGRAMS + 1
    one.keep(0, payload(1))
    assert len(one.compiled) == MAX_PROGRAMS + 2


def test_parts_of_a_tensor_split_are_compiled_once() -> None:
    one, parts = Store(), 300
    for _ in range(3):
        for i in range(parts):
            one.keep(0, payload(i))
    assert len(one.compiled) == parts


def test_graphs_with_the_same_checksum_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph_store.zlib_ng, "crc32", lambda data: 0)
    one = Store()
    for uid in (1, 2, 1, 2):
        one.keep(uid, payload(uid))
        assert one.compiled[-1] == payload(uid)
    one.keep(2, payload(2))
    assert len(one.compiled) == 4
    assert one.recall(1)
    assert one.compiled[-1] == payload(1)


def test_large_graphs_displace_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(payload(0))
    monkeypatch.setattr(graph_store, "MAX_COMPILED", 2 * size)
    one = Store()
    for number in (1, 2, 2, 3, 2, 1):
        one.keep(0, payload(number))
    assert list(one.compiled) == [payload(n) for n in (1, 2, 3, 1)]
    for _ in range(2):
        one.keep(0, payload(4, *range(10)))
    assert len(one.compiled) == 5


def test_every_kept_graph_is_there_however_many_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graph_store, "MAX_PROGRAMS", 64)
    one = Store()
    for uid in range(1, MAX_GRAPHS + 1):
        one.keep(uid, payload(uid))
    for uid in (1, MAX_GRAPHS // 2, MAX_GRAPHS):
        assert one.recall(uid)
        assert one.compiled[-1] == payload(uid) or uid == MAX_GRAPHS


def test_graph_beyond_the_limit_drops_all_others_first() -> None:
    one = Store()
    for uid in range(1, MAX_GRAPHS + 2):
        one.keep(uid, payload(uid))
    assert one.recall(MAX_GRAPHS + 1)
    assert not any(map(one.recall, range(1, MAX_GRAPHS + 1)))


def test_uid_that_comes_again_means_the_new_graph() -> None:
    one = Store()
    old = one.keep(7, payload(1))
    new = one.keep(7, payload(2))
    assert old is not new
    assert one.recall(7) is new
    assert one.recall(0) is None
    one.keep(0, payload(3))
    assert one.recall(0) is None


def test_version_without_uids_keeps_the_last_graph() -> None:
    one = Store()
    one.keep(None, payload(1))
    last = one.keep(None, payload(2))
    assert one.recall(None) is last


def test_freed_buffer_takes_the_graphs_that_touch_it() -> None:
    one = Store()
    one.keep(1, payload(1, 0x1000, 0x2000))
    two = one.keep(2, payload(2, 0x2000))
    one.store.forget(0x1000)
    assert one.recall(1) is None
    assert one.recall(2) is two
    one.store.forget(0x2000)
    assert one.recall(2) is None
    one.keep(0, payload(2, 0x2000))
    assert len(one.compiled) == 3  # the program was dropped too


@pytest.mark.parametrize("most", [0, 1 << 20], ids=["on_disk", "in_memory"])
def test_cold_graphs_are_compiled_again(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(graph_store, "MAX_PROGRAMS", 2)
    monkeypatch.setattr(graph_store, "MAX_PACKED", most)
    one = Store()
    for _ in range(2):
        for uid in range(1, 6):
            one.keep(uid, payload(uid, 0x1000))
        for uid in range(1, 6):
            one.recall(uid)
            assert one.compiled[-1] == payload(uid, 0x1000)
    one.store.forget(0x1000)
    assert not any(map(one.recall, range(1, 6)))
    (graphs,) = one.store._by_device.values()
    assert graphs.packed == 0
    assert not graphs.file or not graphs.file.seek(0, 2)
    one.store.clear()


def test_cold_graphs_stay_in_memory_where_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(graph_store, "MAX_PROGRAMS", 1)
    monkeypatch.setattr(graph_store, "MAX_PACKED", 0)
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    one = Store()
    one.keep(1, payload(1))
    one.keep(2, payload(2))
    assert "No space left" in caplog.text
    assert one.recall(1)


def test_kept_graphs_count_against_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(payload(0))
    one = Store(memory=3 * size)
    for uid in (1, 2, 3):
        one.keep(uid, payload(uid))
    with pytest.raises(
        OutOfMemory, match=r"uid 4 .* 3 others that the client keeps: .*--max-"
    ):
        one.keep(4, payload(4))
    one = Store(memory=3 * size)
    for uid in (1, 1, 1, 1, 2):
        one.keep(uid, payload(uid))
    one.store.clear()
    one.quota.reserve(3 * size)


def test_equal_graphs_of_two_uids_share_a_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Store()
    assert one.keep(1, payload(1)) is one.keep(2, payload(1))
    monkeypatch.setattr(graph_store, "MAX_PROGRAMS", 1)
    one.keep(3, payload(3))
    one.keep(4, payload(1))
    assert one.recall(1)
    assert one.recall(2)
    assert one.recall(4)
