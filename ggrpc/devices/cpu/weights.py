"""The bounded cache of weights that are unpacked into float32 once, not at each token.

A weight is known by where its bytes lie. It may be kept as long as no program writes
into its buffer, and is dropped when the host changes its bytes or frees the buffer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from weakref import WeakValueDictionary

from ggrpc.devices.cpu.buffer import CpuBuffer
from ggrpc.formats.codecs import Array
from ggrpc.tensor import Tensor

# Seconds without use after which a weight gives way to another. A model larger than the
# cache is read from end to end again and again: the least recently used weight would
# always be the one needed next, so what is in use stays and the rest is not kept.
IDLE = 10.0

Unpack = Callable[[], Array]


class Weight:
    """A tensor that the cache may keep unpacked.

    Args:
        cache: the cache.
        buffer: what holds the tensor's bytes.
        offset: of its first byte there.
        tensor: the tensor.
        unpack: makes the array to keep, of 4 bytes an element.
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
        """What `unpack` made, now or earlier; None where it cannot be kept."""
        self.used_at = time.monotonic()
        if self.array is None:
            return self._cache.fill(self)
        return self.array


class WeightCache:
    """Unpacked weights of all programs of a device; its methods are thread-safe.

    Args:
        limit: bytes that the arrays may take together.
        has_room: whether the machine can spare so many bytes more.

    Attributes:
        used: bytes that they take.
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
        """The weight of a tensor: the same one wherever the same bytes are meant.

        Args:
            buffer: what holds the tensor's bytes.
            offset: of its first byte there.
            tensor: the tensor.
            unpack: makes the array to keep.
        """
        key = buffer, offset, tensor.type, tensor.ne, tensor.nb
        with self._lock:
            known = self._known.get(key)
            if known is None:
                known = Weight(self, buffer, offset, tensor, unpack)
                self._known[key] = known
            return known

    def fill(self, weight: Weight) -> Array | None:
        """Unpack a weight and keep it, if it may be kept and there is room."""
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
        """A program writes into a buffer: nothing in it is a weight, now or later."""
        if not buffer.computed:
            buffer.computed = True
            self.freed(buffer)
            buffer.watched = False

    def changed(self, buffer: CpuBuffer, offset: int, size: int) -> None:
        """The host writes into a buffer."""
        stop = offset + size
        with self._lock:
            for weight in [w for w in self._kept if w.buffer is buffer]:
                if weight.start < stop and offset < weight.stop:
                    self._drop(weight)

    def freed(self, buffer: CpuBuffer) -> None:
        """A buffer is gone."""
        self.changed(buffer, 0, buffer.size)

    def clear(self) -> None:
        """Give all the memory back; what is still in use gets unpacked again."""
        with self._lock:
            for weight in list(self._kept):
                self._drop(weight)

    def _make_room(self, size: int) -> bool:
        """Drop idle weights, the longest unused first, until `size` bytes fit."""
        if size > self.limit or not self._has_room(size):
            return False
        excess = self.used + size - self.limit
        if excess <= 0:
            return True
        before = time.monotonic() - IDLE
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
