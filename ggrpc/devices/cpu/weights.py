"""A bounded cache of weights that are unpacked to float32.

Without it, weights would be unpacked again for each token. A weight is identified by
its buffer, offset and layout. It is not cached if a program writes to its buffer, and
it is dropped when the host changes its bytes or frees the buffer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from weakref import WeakValueDictionary

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.formats.codecs import Array
from ggrpc.tensor import Tensor

# Seconds without use after which a weight may be evicted. If a model is larger than the
# cache, its weights are used in the same order again and again, and LRU eviction would
# always drop the weight that is needed next. Weights in use therefore stay, and others
# are not cached.
IDLE_SECONDS = 10.0

Unpack = Callable[[], Array]


class Weight:
    """A tensor that can be cached.

    Args:
        cache: the cache.
        buffer: the buffer that holds the tensor.
        offset: the offset of its first byte in the buffer.
        tensor: the tensor.
        unpack: returns the unpacked array, which has 4 bytes per element.
    """

    def __init__(
        self,
        cache: WeightCache,
        buffer: CpuBuffer,
        offset: int,
        tensor: Tensor,
        unpack: Unpack,
    ) -> None:
        self.buffer = buffer
        self.start = offset
        self.stop = offset + tensor.nbytes
        self.size = 4 * tensor.nelements
        self.unpack = unpack
        self.array: Array | None = None
        self.used_at = 0.0
        self._cache = cache

    def values(self) -> Array | None:
        """The unpacked array, in float32; None if it cannot be cached."""
        self.used_at = time.monotonic()
        if self.array is None:
            return self._cache.fill(self)
        return self.array


class WeightCache:
    """The unpacked weights of all programs of a device; thread-safe.

    Args:
        limit: the maximum size of all unpacked arrays in bytes.
        has_room: whether the machine has this many free bytes to spare.

    Attributes:
        limit: the maximum size in bytes.
        used: the current size in bytes.
    """

    def __init__(self, limit: int, has_room: Callable[[int], bool]) -> None:
        self.limit = limit
        self.used = 0
        self._has_room = has_room
        self._lock = Lock()
        self._known: WeakValueDictionary[object, Weight] = WeakValueDictionary()
        self._kept: dict[Weight, None] = {}

    def weight(
        self, buffer: CpuBuffer, offset: int, tensor: Tensor, unpack: Unpack
    ) -> Weight:
        """The weight of a tensor; the same object for the same bytes and layout.

        Args:
            buffer: the buffer that holds the tensor.
            offset: the offset of its first byte in the buffer.
            tensor: the tensor.
            unpack: returns the unpacked array.
        """
        key = buffer, offset, tensor.type, tensor.ne, tensor.nb
        with self._lock:
            known = self._known.get(key)
            if known is None:
                known = Weight(self, buffer, offset, tensor, unpack)
                self._known[key] = known
            return known

    def fill(self, weight: Weight) -> Array | None:
        """Unpack a weight into the cache; returns None if it cannot be cached."""
        with self._lock:
            if weight.buffer.computed or weight in self._kept:
                return None
            if not self._make_room(weight.size):
                return None
            self._kept[weight] = None
            self.used += weight.size
            weight.buffer.watched = True
        try:
            array = weight.unpack()
        except MemoryError:
            self._discard(weight)
            return None
        with self._lock:
            if weight in self._kept:  # its bytes have not changed meanwhile
                weight.array = array
        return array

    def computed(self, buffer: CpuBuffer) -> None:
        """Mark a buffer as written by a program; its tensors are never cached again."""
        if not buffer.computed:
            buffer.computed = True
            self.freed(buffer)
            buffer.watched = False

    def changed(self, buffer: CpuBuffer, offset: int, size: int) -> None:
        """Drop the weights in a range of a buffer that the host is about to write."""
        stop = offset + size
        with self._lock:
            for weight in [w for w in self._kept if w.buffer is buffer]:
                if weight.start < stop and offset < weight.stop:
                    self._drop(weight)

    def freed(self, buffer: CpuBuffer) -> None:
        """Drop all weights in a buffer."""
        self.changed(buffer, 0, buffer.size)

    def clear(self) -> None:
        """Drop all weights; they are unpacked again when they are used."""
        with self._lock:
            for weight in list(self._kept):
                self._drop(weight)

    def _make_room(self, size: int) -> bool:
        """Evict idle weights, least recently used first, until `size` bytes fit."""
        if size > self.limit or not self._has_room(size):
            return False
        excess = self.used + size - self.limit
        if excess <= 0:
            return True
        before = time.monotonic() - IDLE_SECONDS
        idle = [weight for weight in self._kept if weight.used_at < before]
        if sum(weight.size for weight in idle) < excess:
            return False
        for weight in sorted(idle, key=lambda weight: weight.used_at):
            if excess > 0:
                excess -= weight.size
                self._drop(weight)
        return True

    def _discard(self, weight: Weight) -> None:
        with self._lock:
            if weight in self._kept:
                self._drop(weight)

    def _drop(self, weight: Weight) -> None:
        del self._kept[weight]
        self.used -= weight.size
        weight.array = None
