"""Loads tensors from the cache for one session, and adds tensors that it receives."""

from __future__ import annotations

import time
from collections.abc import Callable

from ggrpc.devices.device import Buffer
from ggrpc.engine.cache.checked_reads import PIECE
from ggrpc.engine.cache.tensor_cache import TensorCache
from ggrpc.engine.cache.writer import PendingEntry
from ggrpc.engine.wire import messages as m

# Size in bytes above which llama.cpp's clients send a hash first: HASH_THRESHOLD.
THRESHOLD = 10 << 20
# Seconds that a client waits for an entry of its own that is being stored.
PENDING_TIMEOUT = 10.0
# Seconds that a client waits in total, in vain, for entries of other clients: another
# client's announced hash may be wrong, or its entry not stored in time.
WASTED_WAIT_LIMIT = 10.0
# Entries of one client that are being stored. With more the client waits, so that other
# clients can have pending entries too.
MAX_PENDING = 64

Receive = Callable[[memoryview], None]


class Loader:
    """Writes tensors from the cache to buffers, and adds received tensors to it.

    Args:
        cache: the cache of the server; None if it has none.
        asked: whether the client says which tensors to store, as it does from protocol
            7.0 on; if False, all tensors above the threshold are stored.
    """

    def __init__(self, cache: TensorCache | None = None, asked: bool = True) -> None:
        self._cache = cache
        self._asked = asked
        self._missed: m.SetTensorHash | None = None
        self._pending: list[PendingEntry] = []  # this client's, oldest first
        self._wait_left = WASTED_WAIT_LIMIT

    def load(self, request: m.SetTensorHash, buffer: Buffer, at: int) -> bool:
        """Write the tensor with the requested hash to a buffer.

        Args:
            request: the request.
            buffer: the buffer.
            at: the offset of the first byte in the buffer.

        Returns:
            Whether the cache had the tensor.
        """
        self._missed = None
        if self._cache is None:
            return False
        began = time.monotonic()
        is_own = self._wait_for(request.hash)
        waited = 0.0 if is_own else time.monotonic() - began
        max_size = min(request.tensor.nbytes - request.offset, buffer.size - at)
        found = self._cache.load(
            request.hash, max_size, lambda size: buffer.write(at, size)
        )
        if not found:
            self._missed = request
            self._wait_left = max(0.0, self._wait_left - waited)
        return found

    def receive(self, request: m.SetTensor, view: memoryview, receive: Receive) -> None:
        """Receive the bytes of a tensor, and add them to the cache if requested.

        Args:
            request: the request.
            view: the destination.
            receive: fills a view with the next bytes.
        """
        pending = self._begin(request)
        if pending is None:
            receive(view)
            return
        try:
            for start in range(0, len(view), PIECE):
                piece = view[start : start + PIECE]
                receive(piece)
                pending.write(piece)
        except BaseException:
            pending.discard_incomplete()
            raise

    def _wait_for(self, value: int) -> bool:
        """Wait for the entry with a hash, if one is being stored.

        An entry of this client comes first.

        Returns:
            Whether the entry is this client's.
        """
        assert self._cache is not None
        for pending in self._pending:
            if pending.announced == value and not pending.done.is_set():
                pending.done.wait(PENDING_TIMEOUT)
                return True
        self._cache.wait_for(value, self._wait_left)
        return False

    def _begin(self, request: m.SetTensor) -> PendingEntry | None:
        """Start an entry for a tensor, if it is to be stored."""
        if self._cache is None or not self._stores(request):
            return None
        announced = self._announced(request)
        self._pending = [entry for entry in self._pending if not entry.done.is_set()]
        if len(self._pending) >= MAX_PENDING:
            oldest = self._pending[0]
            if not oldest.done.wait(PENDING_TIMEOUT):
                return None
        name = request.tensor.name
        pending = self._cache.begin(request.size, announced, name)
        if pending is not None:
            self._pending.append(pending)
        return pending

    def _stores(self, request: m.SetTensor) -> bool:
        return bool(request.cache) if self._asked else request.size > THRESHOLD

    def _announced(self, request: m.SetTensor) -> int | None:
        """The hash of the last SET_TENSOR_HASH, if it missed and fits this tensor."""
        missed, self._missed = self._missed, None
        place = request.tensor.data, request.offset
        if missed and (missed.tensor.data, missed.offset) == place:
            return missed.hash
        return None
