"""Hashing on devices that work, fail, or compute wrong hashes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ggrpc.devices.block_hash import Chunks, Hashes, Lows
from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.cache.accelerated_hash import DEVICE_THRESHOLD, Hashing, hashing_for
from ggrpc.engine.cache.fnv1a import fnv1a
from ggrpc.errors import DeviceError
from tests.support.caches import random_bytes

DATA = random_bytes(300_000)


class HashingDevice(CpuDevice):
    """A device that hashes chunks, and can be made to fail.

    Args:
        calls: the number of calls after which it fails.
        error: is added to the hash of each chunk.

    Attributes:
        threads: the thread of each call of `block_hash`.
    """

    def __init__(self, calls: int = 1 << 30, error: int = 0) -> None:
        super().__init__(threads=1, weight_cache=0)
        self.calls = calls
        self.error = np.uint64(error)
        self.threads: list[int] = []

    def block_hash(self) -> Chunks:
        self.threads.append(threading.get_ident())
        return _FaultyChunks(self)


class _FaultyChunks(Chunks):
    def __init__(self, device: HashingDevice) -> None:
        super().__init__()
        self._device = device

    def lows(self, starts: Lows, bit: int) -> Lows:
        self._device.calls -= 1
        if self._device.calls < 0:
            raise DeviceError("the card has gone")
        return super().lows(starts, bit)

    def hashes(self, starts: Lows) -> Hashes:
        return super().hashes(starts) + self._device.error


def test_first_device_that_can_hash_is_used(caplog: pytest.LogCaptureFixture) -> None:
    device = HashingDevice()
    hashing = Hashing(lambda: [CpuDevice(threads=1), device])
    assert not device.threads
    assert hashing.of(DATA) == fnv1a(DATA)
    assert hashing.of(DATA) == fnv1a(DATA)
    trial, used = device.threads
    assert trial == used
    assert caplog.text == ""


def test_each_thread_gets_its_own_block_hash() -> None:
    device = HashingDevice()
    hashing = Hashing(lambda: [device])
    hashing.of(DATA)
    values: list[int] = []
    thread = threading.Thread(target=lambda: values.append(hashing.of(DATA)))
    thread.start()
    thread.join()
    assert values == [fnv1a(DATA)]
    assert len(set(device.threads)) == 2


def test_device_with_wrong_hashes_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    hashing = Hashing(lambda: [HashingDevice(error=1)])
    assert hashing.of(DATA) == fnv1a(DATA)
    assert "cpu computes wrong hashes; hashing with numpy instead" in caplog.text


@pytest.mark.parametrize("calls", [0, 8, 12])
def test_numpy_takes_over_when_the_device_fails(
    calls: int, caplog: pytest.LogCaptureFixture
) -> None:
    hashing = Hashing(lambda: [HashingDevice(calls)])
    data = random_bytes(9 << 20)  # three blocks
    assert hashing.of(data) == fnv1a(data)
    assert "the card has gone" in caplog.text


def test_numpy_is_used_when_no_device_opens(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> list[CpuDevice]:
        raise DeviceError("there is no driver")

    hashing = Hashing(fail)
    assert [hashing.of(DATA), hashing.of(DATA)] == 2 * [fnv1a(DATA)]
    assert caplog.text.count("there is no driver; hashing with numpy instead") == 1


@pytest.mark.parametrize("size", [0, DEVICE_THRESHOLD])
def test_hashing_for_any_size_is_correct(size: int) -> None:
    assert hashing_for(size).of(DATA) == fnv1a(DATA)
