"""One session's use of the cache: what it is asked to write by hash, or to keep."""

from __future__ import annotations

from collections.abc import Callable

from ggrpc.devices.device import Buffer
from ggrpc.engine.cache.reading import PIECE
from ggrpc.engine.cache.store import TensorCache
from ggrpc.engine.wire import messages as m

# Bytes above which llama.cpp's clients ask for a hash first: HASH_THRESHOLD.
THRESHOLD = 10 << 20

Receive = Callable[[memoryview], None]


class Loader:
    """Writes tensors out of the cache, and keeps those that are sent.

    Args:
        cache: the server's, None where it has none.
        asked: whether the client says what to keep, as it does from protocol 7.0 on;
            else all above the threshold is kept.
    """

    def __init__(self, cache: TensorCache | None = None, asked: bool = True) -> None:
        self._cache = cache
        self._asked = asked
        self._missed: m.SetTensorHash | None = None

    def load(self, request: m.SetTensorHash, buffer: Buffer, at: int) -> bool:
        """Write what has the request's hash; False where nothing has.

        Args:
            request: what is asked for.
            buffer: where it goes.
            at: from which byte on.
        """
        self._missed = None
        if self._cache is None:
            return False
        room = min(request.tensor.nbytes - request.offset, buffer.size - at)
        found = self._cache.load(
            request.hash, room, lambda size: buffer.write(at, size)
        )
        if not found:
            self._missed = request
        return found

    def receive(self, request: m.SetTensor, view: memoryview, receive: Receive) -> None:
        """Receive a tensor's bytes, and keep them where that is asked for.

        Args:
            request: what is sent.
            view: where it goes.
            receive: fills a view with the next bytes.
        """
        pending = None
        if self._cache is not None and self._keeps(request):
            announced = self._announced(request)
            pending = self._cache.begin(request.size, announced, request.tensor.name)
        if pending is None:
            receive(view)
            return
        try:
            for start in range(0, len(view), PIECE):
                piece = view[start : start + PIECE]
                receive(piece)
                pending.write(piece)
        except BaseException:
            pending.give_up()
            raise

    def _keeps(self, request: m.SetTensor) -> bool:
        return bool(request.cache) if self._asked else request.size > THRESHOLD

    def _announced(self, request: m.SetTensor) -> int | None:
        """The hash that the client asked for before it sent this."""
        missed, self._missed = self._missed, None
        place = request.tensor.data, request.offset
        if missed and (missed.tensor.data, missed.offset) == place:
            return missed.hash
        return None
