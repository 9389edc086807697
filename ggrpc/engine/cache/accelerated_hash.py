"""Creates hashers that use a device to accelerate them, if it hashes correctly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from ggrpc.devices.block_hash import BlockHash
from ggrpc.devices.catalogue import Choices, open_best
from ggrpc.devices.device import Device
from ggrpc.engine.cache.fnv1a import Bytes, Hasher, fnv1a
from ggrpc.errors import GgrpcError

# Bytes; for fewer, numpy is done before a device is open.
DEVICE_THRESHOLD = 1 << 30

log = logging.getLogger(__name__)


class Hashing:
    """A factory of hashers; may be shared by threads.

    Args:
        devices: opens devices, called for the first hasher. The first device that can
            hash is used; without one, numpy hashes.
    """

    def __init__(self, devices: Callable[[], Sequence[Device]] = tuple) -> None:
        self._open_devices = devices
        self._device: Device | None = None
        self._is_open = False
        self._lock = threading.Lock()  # guards _device and _is_open
        self._local = threading.local()

    def hasher(self) -> Hasher:
        """A new hasher; the thread must not use its previous hasher again."""
        if not hasattr(self._local, "block_hash"):
            self._local.block_hash = self._block_hash()
        return Hasher(self._local.block_hash)

    def of(self, data: Bytes) -> int:
        """The 64-bit FNV-1a hash of `data`."""
        hasher = self.hasher()
        hasher.update(data)
        return hasher.value

    def _block_hash(self) -> BlockHash | None:
        with self._lock:
            try:
                if not self._is_open:
                    self._is_open = True
                    self._device = _first_correct(self._open_devices())
                return self._device.block_hash() if self._device else None
            except GgrpcError as error:
                log.warning("%s; hashing with numpy instead", error)
                return None


def hashing_for(size: int) -> Hashing:
    """The fastest way to hash `size` bytes on this machine."""
    if size < DEVICE_THRESHOLD:
        return Hashing()
    return Hashing(lambda: [open_best(Choices(weight_cache=0))])


def _first_correct(devices: Sequence[Device]) -> Device | None:
    """The first device that can hash, and whose hash of random data is correct."""
    for device in devices:
        if block_hash := device.block_hash():
            data = np.random.default_rng(0).bytes(2 * block_hash.min_size)
            hasher = Hasher(block_hash)
            hasher.update(data)
            if hasher.value == fnv1a(data):
                return device
            log.warning(
                "%s computes wrong hashes; hashing with numpy instead", device.name
            )
    return None
