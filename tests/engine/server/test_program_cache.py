from __future__ import annotations

import pytest

from ggrpc.devices.cpu import CpuDevice
from ggrpc.devices.device import Device, Program
from ggrpc.engine.server.program_cache import MAX_PROGRAMS, ProgramCache
from ggrpc.graph import Graph


def test_same_bytes_are_compiled_once_for_each_device() -> None:
    cache, compiled = ProgramCache(), []

    def compile(device: Device, graph: bytes) -> Program:
        compiled.append((device, graph))
        return device.compile(Graph.of([], []), {})

    one, two = (CpuDevice(threads=1, weight_cache=0) for _ in range(2))
    first = cache.get(one, b"graph", compile)
    assert cache.get(one, bytes(bytearray(b"graph")), compile) is first
    assert cache.get(two, b"graph", compile) is not first
    assert len(compiled) == 2
    cache.clear()
    assert cache.get(one, b"graph", compile) is not first


def test_least_recently_used_program_is_dropped() -> None:
    cache, compiled = ProgramCache(), []

    def compile(device: Device, graph: bytes) -> Program:
        compiled.append(graph)
        return device.compile(Graph.of([], []), {})

    device = CpuDevice(threads=1, weight_cache=0)
    for i in range(MAX_PROGRAMS):
        cache.get(device, b"%d" % i, compile)
    cache.get(device, b"0", compile)
    cache.get(device, b"one more", compile)
    cache.get(device, b"0", compile)
    assert len(compiled) == MAX_PROGRAMS + 1
    cache.get(device, b"1", compile)
    assert len(compiled) == MAX_PROGRAMS + 2


def test_bytes_of_graphs_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggrpc.engine.server.program_cache.MAX_BYTES", 100)
    cache, compiled = ProgramCache(), []

    def compile(device: Device, graph: bytes) -> Program:
        compiled.append(graph)
        return device.compile(Graph.of([], []), {})

    device = CpuDevice(threads=1, weight_cache=0)
    for graph in (b"a" * 60, b"b" * 30, b"b" * 30, b"c" * 60, b"b" * 30, b"a" * 60):
        cache.get(device, graph, compile)
    assert [chr(graph[0]) for graph in compiled] == ["a", "b", "c", "a"]
    cache.get(device, b"d" * 200, compile)
    cache.get(device, b"d" * 200, compile)
    assert len(compiled) == 5
