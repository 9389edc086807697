"""Buffers of the cpu device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import psutil
import pytest

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.devices.cpu.mapped_memory import HUGE_PAGE

Seen = list[tuple[CpuBuffer, int, int]]


@pytest.fixture
def changes() -> Seen:
    return []


@pytest.fixture
def buffer(changes: Seen) -> CpuBuffer:
    return make(100, changes)


def make(size: int, changes: Seen | None = None) -> CpuBuffer:
    def changed(buffer: CpuBuffer, offset: int, size: int) -> None:
        if changes is not None:
            changes.append((buffer, offset, size))

    return CpuBuffer(size, changed, lambda buffer: None)


@pytest.fixture
def often() -> Iterator[None]:
    """Makes Python switch threads often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def contents(buffer: CpuBuffer) -> bytes:
    with buffer.read(0, buffer.size) as window:
        return bytes(window)


@pytest.mark.parametrize("size", [0, 1, 100, HUGE_PAGE + 1])
def test_buffer_is_zero_at_first(size: int) -> None:
    buffer = make(size)
    assert contents(buffer) == bytes(size)
    buffer.free()


def test_written_bytes_are_read_back(buffer: CpuBuffer) -> None:
    with buffer.write(10, 3) as window:
        window[:] = b"abc"
    assert contents(buffer) == bytes(10) + b"abc" + bytes(87)


def test_buffer_fills_a_range(buffer: CpuBuffer) -> None:
    buffer.fill(98, 2, 255)
    assert contents(buffer) == bytes(98) + b"\xff\xff"


def test_buffer_copies_from_another(buffer: CpuBuffer) -> None:
    other = make(50)
    other.fill(0, 50, 7)
    buffer.copy(1, other, 2, 3)
    assert contents(buffer) == b"\0\7\7\7" + bytes(96)


@pytest.mark.parametrize(("to", "start"), [(0, 2), (2, 0)])
def test_buffer_copies_overlapping_bytes(
    buffer: CpuBuffer, to: int, start: int
) -> None:
    with buffer.write(0, 100) as window:
        window[:] = bytes(range(100))
    buffer.copy(to, buffer, start, 98)
    assert contents(buffer)[to : to + 98] == bytes(range(start, start + 98))


def test_buffer_copies_nothing(buffer: CpuBuffer) -> None:
    buffer.copy(100, buffer, 0, 0)
    assert contents(buffer) == bytes(100)


@pytest.mark.parametrize("does", ["copy", "fill"])
def test_other_threads_run_while_a_buffer_is_filled(does: str, often: None) -> None:
    size, begun, done = 256 << 20, Event(), Event()
    buffer, source = make(size), make(size)
    counts = []

    def count() -> None:
        counts.append(0)
        begun.set()
        while not done.is_set():
            counts[0] += 1

    with ThreadPoolExecutor() as pool:
        pool.submit(count)
        begun.wait()
        before = counts[0]
        if does == "copy":
            buffer.copy(0, source, 0, size)
        else:
            buffer.fill(0, size, 1)
        while_it_did = counts[0] - before
        done.set()
    assert while_it_did > 50_000  # hardly any while it holds the GIL


def test_watched_buffer_reports_changes(buffer: CpuBuffer, changes: Seen) -> None:
    buffer.fill(0, 10, 1)
    assert not changes
    buffer.watched = True
    buffer.fill(1, 10, 1)
    buffer.copy(2, buffer, 0, 20)
    with buffer.write(3, 30):
        pass
    with buffer.read(4, 40):
        pass
    assert changes == [(buffer, 1, 10), (buffer, 2, 20), (buffer, 3, 30)]


def test_free_returns_the_memory_to_the_system() -> None:
    size = 64 << 20
    buffer = make(size)
    buffer.fill(0, size, 1)
    before = psutil.Process().memory_info().rss
    buffer.free()
    assert before - psutil.Process().memory_info().rss > size * 3 // 4


def test_buffer_can_be_freed_while_an_array_uses_it(buffer: CpuBuffer) -> None:
    view = np.frombuffer(buffer.memory, np.uint8)
    with buffer.read(0, 10) as window:
        buffer.free()
        assert bytes(window) == bytes(10)
    assert not view.any()


def test_free_is_reported() -> None:
    freed: list[CpuBuffer] = []
    buffer = CpuBuffer(8, lambda buffer, offset, size: None, freed.append)
    buffer.free()
    assert freed == [buffer]
