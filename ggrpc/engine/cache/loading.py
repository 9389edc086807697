"""The use of the cache by one session: SET_TENSOR_HASH and SET_TENSOR."""

from __future__ import annotations

from collections.abc import Callable

from ggrpc.devices.device import Buffer
from ggrpc.engine.cache.reading import PIECE
from ggrpc.engine.cache.store import TensorCache
from ggrpc.engine.wire import messages as m

# Size in bytes above which llama.cpp's clients send a hash first: HASH_THRESHOLD.
THRESHOLD = 10 << 20

Receive = Callable[[memoryview], None]


class Loader:
    """Writes tensors from the cache to buffers, and adds received tensors to it.

    Args:
        cache: the cache of the server; None if it has none.
        asked: True if the client says which tensors to store, as from protocol 7.0 on;
            False to store all tensors above the threshold.
    """

    def __init__(self, cache: TensorCache | None = None, asked: bool = True) -> None:
        self._cache = cache
        self._asked = asked
        self._missed: m.SetTensorHash | None = None

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
        max_size = min(request.tensor.nbytes - request.offset, buffer.size - at)
        found = self._cache.load(
            request.hash, max_size, lambda size: buffer.write(at, size)
        )
        if not found:
            self._missed = request
        return found

    def receive(self, request: m.SetTensor, view: memoryview, receive: Receive) -> None:
        """Receive the bytes of a tensor, and add them to the cache if requested.

        Args:
            request: the request.
            view: the destination.
            receive: fills a view with the next bytes.
        """
        pending = None
        if self._cache is not None and self._stores(request):
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

    def _stores(self, request: m.SetTensor) -> bool:
        return bool(request.cache) if self._asked else request.size > THRESHOLD

    def _announced(self, request: m.SetTensor) -> int | None:
        """The hash of the request that the cache could not answer before this one."""
        missed, self._missed = self._missed, None
        place = request.tensor.data, request.offset
        if missed and (missed.tensor.data, missed.offset) == place:
            return missed.hash
        return None
