"""Devices that help to hash, fail, or do it wrongly."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from ggrpc.devices.block_hash import Chunks, Hashes, Lows
from ggrpc.devices.cpu import CpuDevice
from ggrpc.engine.cache.accelerated_hash import DEVICE_THRESHOLD, Hashing, hashing_for
from ggrpc.engine.cache.fnv1a import fnv1a
from ggrpc.errors import DeviceError
from tests.support.caches import noise

DATA = noise(300_000)


class Helper(CpuDevice):
    """Hashes chunks until it was told to fail, or wrongly.

    Args:
        lives: calls after which it fails.
        wrong: what it adds to each chunk's hash.

    Attributes:
        opened: threads that hash with it.
    """

    def __init__(self, lives: int = 1 << 30, wrong: int = 0) -> None:
        super().__init__(threads=1, weight_cache=0)
        self.lives = lives
        self.wrong = np.uint64(wrong)
        self.opened: list[int] = []

    def block_hash(self) -> Chunks:
        self.opened.append(threading.get_ident())
        return _Helping(self)


class _Helping(Chunks):
    def __init__(self, helper: Helper) -> None:
        super().__init__()
        self._helper = helper

    def lows(self, starts: Lows, bit: int) -> Lows:
        self._helper.lives -= 1
        if self._helper.lives < 0:
            raise DeviceError("the card has gone")
        return super().lows(starts, bit)

    def hashes(self, starts: Lows) -> Hashes:
        return super().hashes(starts) + self._helper.wrong


def test_a_device_helps(caplog: pytest.LogCaptureFixture) -> None:
    helper = Helper()
    hashing = Hashing(lambda: [CpuDevice(threads=1), helper])
    assert not helper.opened
    assert hashing.of(DATA) == fnv1a(DATA)
    assert hashing.of(DATA) == fnv1a(DATA)
    proof, used = helper.opened
    assert proof == used
    assert caplog.text == ""


def test_each_thread_has_help_of_its_own() -> None:
    helper = Helper()
    hashing = Hashing(lambda: [helper])
    hashing.of(DATA)
    values: list[int] = []
    thread = threading.Thread(target=lambda: values.append(hashing.of(DATA)))
    thread.start()
    thread.join()
    assert values == [fnv1a(DATA)]
    assert len(set(helper.opened)) == 2


def test_a_device_that_is_wrong_does_not_help(caplog: pytest.LogCaptureFixture) -> None:
    hashing = Hashing(lambda: [Helper(wrong=1)])
    assert hashing.of(DATA) == fnv1a(DATA)
    assert "cpu computes wrong hashes; hashing with numpy instead" in caplog.text


@pytest.mark.parametrize("lives", [0, 8, 12])
def test_a_device_that_fails_costs_only_its_help(
    lives: int, caplog: pytest.LogCaptureFixture
) -> None:
    hashing = Hashing(lambda: [Helper(lives)])
    data = noise(9 << 20)  # three blocks
    assert hashing.of(data) == fnv1a(data)
    assert "the card has gone" in caplog.text


def test_devices_that_cannot_be_opened_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> list[CpuDevice]:
        raise DeviceError("there is no driver")

    hashing = Hashing(fail)
    assert [hashing.of(DATA), hashing.of(DATA)] == 2 * [fnv1a(DATA)]
    assert caplog.text.count("there is no driver; hashing with numpy instead") == 1


@pytest.mark.parametrize("size", [0, DEVICE_THRESHOLD])
def test_any_amount_is_hashed(size: int) -> None:
    assert hashing_for(size).of(DATA) == fnv1a(DATA)
